# shellcheck shell=bash disable=SC2034 # what is set here is used there
# To be sourced by e2e/kube/run: waiting, measuring and judging.
#
# Needs KUBECONFIG, kubectl, helm, jq. Scenarios run in one namespace, in order, on clusters that they make.

readonly namespace=lockstep-e2e release=lockstep operator_namespace=lockstep-system
readonly logs=data/e2e-kube
failures=0 skipped=0 short=0

now() { date +%s.%N; }
# since START: seconds.
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }
figure() { printf 'figure %s %s %s\n' "$1" "$2" "$3"; }
# judge NAME VALUE UNIT GOAL: a figure that should be at most so much. One that is short fails nothing: how long
# something takes depends on the machines.
judge() {
    local verdict=met
    if ! at_most "$2" "$4"; then
        verdict=short
        short=$((short + 1))
    fi
    printf 'figure %s %s %s goal <= %s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}
at_most() { awk -v value="$1" -v goal="$2" 'BEGIN { exit !(value + 0 == value && value <= goal) }'; }
quietly() { "$@" >/dev/null 2>&1; }
k() { kubectl --namespace "$namespace" "$@"; }

# check WHAT COMMAND...: counts a failure, and goes on.
check() {
    local what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        echo "FAILED: $what"
        failures=$((failures + 1))
    fi
}
skip() {
    echo "skipped: $1"
    skipped=$((skipped + 1))
}

# await SECONDS WHAT COMMAND...: until the command succeeds and prints nothing; at last fails, with what it
# printed.
await() {
    local limit=$((SECONDS + $1)) what=$2 left
    shift 2
    until left=$("$@" 2>/dev/null) && [[ -z $left ]]; do
        if ((SECONDS >= limit)); then
            printf 'waited in vain until %s; last seen: %s\n' "$what" "${left:-nothing}" >&2
            return 1
        fi
        # Each look is a process or two, which what is measured has to share its processors with.
        sleep 0.5
    done
}

# field CLUSTER JQ: of the cluster as it is.
field() { k get synccluster "$1" --output json | jq --raw-output "$2"; }
# condition CLUSTER TYPE: `STATUS REASON MESSAGE`, if it speaks of the newest spec.
condition() {
    field "$1" ".metadata.generation as \$now | .status.conditions[]?
        | select(.type == \"$2\" and .observedGeneration == \$now) | \"\(.status) \(.reason) \(.message)\""
}
# Print what is missing, as `await` wants it.
unlike() { # CLUSTER TYPE PATTERN
    local is
    is=$(condition "$1" "$2")
    # shellcheck disable=SC2053 # a pattern is wanted
    [[ $is == $3 ]] || echo "$2: ${is:-unknown}"
}
# condition_is CLUSTER TYPE PATTERN
condition_is() { [[ -z $(unlike "$@" | tee >(cat >&2)) ]]; }
unsettled() { # CLUSTER NODES
    field "$1" ".metadata.generation as \$now
        | if .status.observedGeneration == \$now and .status.phase == \"Running\" and .status.readyNodes == $2
            and (.status.nodes | length) == $2 then empty else \"\(.status.phase): \(.status.readyNodes) ready\" end"
}

# A spec of a cluster: cluster NAME JSON-OF-SPEC.
apply_cluster() {
    printf '{"apiVersion":"lockstep.dev/v1alpha1","kind":"SyncCluster","metadata":{"name":"%s"},"spec":%s}' "$1" "$2" |
        k apply -f - >/dev/null
}
patch_cluster() { k patch synccluster "$1" --type merge --patch "{\"spec\":$2}" >/dev/null; }

# --- what there is ---

readonly operator_label=app.kubernetes.io/name=lockstep-operator
operators() { kubectl -n "$operator_namespace" get pods --selector "$operator_label" "$@"; }
# The pod of the operator that acts.
leader() {
    local holder
    holder=$(kubectl -n "${1:-$operator_namespace}" get lease "$release" --output 'jsonpath={.spec.holderIdentity}')
    echo "${holder%_*}"
}
# How often operators have ended by themselves.
operator_restarts() { operators --output json | jq '[.items[].status.containerStatuses[]?.restartCount] | add // 0'; }

# Whatever the operator may delete or make anew: pods, volumes, and members; none of their addresses.
belongings() {
    local of="app.kubernetes.io/instance=$1"
    k get statefulset "$1" --output json | jq --raw-output '"\(.metadata.uid) of generation \(.metadata.generation)"'
    k get pods,pvc --selector "$of" --output json | jq --raw-output '.items[] | "\(.kind) \(.metadata.name) \(.metadata.uid)"'
    field "$1" '.status.nodes[] | "\(.name) is node \(.id)"'
}
# unchanged CLUSTER BEFORE: fails and shows the difference if anything was made anew.
unchanged() { diff <(echo "$2") <(belongings "$1") >&2; }

# Counts the pods of a cluster that are ready, a few times a second, until `end_count` prints the fewest.
start_count() {
    while k get pods --selector "app.kubernetes.io/instance=$1" --output json; do
        # Each look is a process or two, which what is measured has to share its processors with.
        sleep 0.5
    done 2>/dev/null | jq --unbuffered '[.items[] | select(.metadata.deletionTimestamp == null)
        | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))] | length' >"$logs/ready" &
    counter=$!
}
end_count() {
    kill "$counter"
    wait "$counter" || true
    sort --numeric-sort "$logs/ready" | head -n 1
}

# Only where the machines and the API server can be stopped from here.
has_kube() { command -v kube >/dev/null; }
machine_of() { k get pod "$1" --output 'jsonpath={.spec.nodeName}'; }
api_silent() { [[ $(kubectl get --raw /readyz) == ok ]] || echo 'not ready'; }

# cli CLUSTER ARGUMENTS...: lockstepctl in a pod of its own.
cli() {
    local cluster=$1 pod=cli-$RANDOM
    shift
    quietly k run "$pod" --image "$CLI_IMAGE" --image-pull-policy IfNotPresent --restart Never \
        --labels lockstep-e2e=cli -- --endpoints "$cluster:7400" "$@"
    await 60 "$pod has ended" running "$pod" || { k describe pod "$pod"; return 1; }
    k logs "$pod"
    local code
    code=$(k get pod "$pod" --output 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')
    quietly k delete pod "$pod" --wait=false
    [[ $code == 0 ]]
}
running() {
    local phase
    phase=$(k get pod "$1" --output 'jsonpath={.status.phase}')
    [[ $phase == Succeeded || $phase == Failed ]] || echo "$phase"
}

# start_load CLUSTER [ARGUMENTS...]: clients that lock and unlock from within the cluster's network.
start_load() {
    local cluster=$1
    shift
    quietly k delete pod load --ignore-not-found --grace-period 0 --force
    # With a share of the processors like a node's, or its own waiting would count as a gap.
    jq --null-input --compact-output --arg image "$LOAD_IMAGE" '{apiVersion: "v1", kind: "Pod",
        metadata: {name: "load"}, spec: {restartPolicy: "Never", containers: [{name: "load", image: $image,
        imagePullPolicy: "IfNotPresent", args: $ARGS.positional, resources: {requests: {cpu: "250m"}}}]}}' \
        --args -- load --endpoints "$cluster:7400" --seconds 600 --clients 16 "$@" | quietly k create --filename -
    await 60 'every shard grants' load_begins
}
load_begins() { [[ $(k logs load) == *'every shard grants'* ]] || echo 'not yet'; }
# Ends the load and prints what it found; fails if that is a violation, or nothing.
end_load() {
    # The pod goes when its program has ended, which SIGTERM asks it to: what it prints is kept before.
    k logs load --follow >"$logs/load.log" 2>/dev/null &
    local follows=$!
    await 60 'the log of the load is followed' followed
    quietly k delete pod load --grace-period 100 --wait=true
    wait "$follows" || true
    grep '^figure' "$logs/load.log" || { echo 'the load ended without a verdict:' && tail "$logs/load.log"; }
    grep --ignore-case '^violation' "$logs/load.log" | head || true
    [[ $(awk '$1 == "figure" && $2 == "violations" { print $3 }' "$logs/load.log") == 0 ]]
}
followed() { [[ -s $logs/load.log ]] || echo 'not yet'; }
# Of the last load, in seconds: the longest time that a shard did not grant.
gap() { awk '$1 == "figure" && $2 == "longest_gap" { print $3 }' "$logs/load.log"; }
