# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# What the operator costs while nothing happens, and what it may do but never does.

# How long an idle operator is watched, in seconds.
readonly idle_watch=90

scenario_idle() {
    if ! has_kube; then
        skip 'idle: no audit log can be read from here'
        return
    fi
    local index start
    apply_tiny 1
    await "$create_limit" 'tiny-1 is as wanted' unsettled tiny-1 1
    idle 1
    start=$(now)
    for ((index = 2; index <= 20; index++)); do
        apply_tiny "$index"
    done
    await "$change_limit" 'all are as wanted' unsettled_all 20
    figure create_19_single_nodes "$(since "$start")" s
    idle 20
    figure reconcile_p99_at_most "$(reconcile_p99)" s
    k delete syncclusters --all --timeout 120s >/dev/null
}
# One node each, and one shard: what 20 of them cost their machines is not measured here.
apply_tiny() {
    apply_cluster "tiny-$1" '{"nodes":1,"replicationFactor":1,"shards":1,"networkPolicy":{"enabled":false},
        "storage":{"size":"1Gi","reclaimPolicy":"Delete"},"resources":{"requests":{"cpu":"10m","memory":"32Mi"}}}'
}
unsettled_all() {
    k get syncclusters --output json | jq --raw-output --argjson all "$1" \
        '[.items[] | select(.status.phase == "Running")] | length | if . == $all then empty else "\(.) run" end'
}

# idle CLUSTERS: figures of an operator that has nothing to do.
idle() {
    local begin pid ticks reconciles
    # What was begun by the last change ends.
    sleep 10
    begin=$(date --utc +%Y-%m-%dT%H:%M:%S.%6NZ) pid=$(operator_pid "$(leader)")
    ticks=$(processor_ticks "$pid") reconciles=$(measured 'lockstep_operator_reconciles_total')
    sleep "$idle_watch"
    requests "$begin" >"$logs/requests-$1"
    figure "idle_${1}_requests" "$(per_minute "$(wc --lines <"$logs/requests-$1")")" 1/min
    figure "idle_${1}_requests_beside_the_lease" "$(per_minute "$(grep --count --invert-match ' leases$' "$logs/requests-$1")")" 1/min
    sort "$logs/requests-$1" | uniq --count
    figure "idle_${1}_reconciles" "$(per_minute $(($(measured 'lockstep_operator_reconciles_total') - reconciles)))" 1/min
    figure "idle_${1}_processor" "$(awk -v ticks=$(($(processor_ticks "$pid") - ticks)) -v hz="$(getconf CLK_TCK)" -v time="$idle_watch" \
        'BEGIN { printf "%.2f", 100 * ticks / hz / time }')" %
    figure "idle_${1}_memory" "$(awk '$1 == "VmRSS:" { printf "%.1f", $2 / 1024 }' "/proc/$pid/status")" MiB
}
per_minute() { awk -v count="$1" -v time="$idle_watch" 'BEGIN { printf "%.1f", count * 60 / time }'; }
processor_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

readonly operator_user=system:serviceaccount:$operator_namespace:$release
# asked JQ: of every request of the operator.
asked() { jq --raw-output "select(.user.username == \"$operator_user\") | $1" "$(kube logs audit)"; }
# requests SINCE: `verb resource` of each that was begun since then.
requests() {
    asked "select(.requestReceivedTimestamp >= \"$1\") | \"\(.auditID) \(.verb) \(.objectRef.resource // .requestURI)\"" |
        sort --unique | cut --delimiter ' ' --fields 2-
}

metrics() { kubectl get --raw "/api/v1/namespaces/$operator_namespace/services/$release-metrics:http/proxy/metrics"; }
# The sum of a metric's samples.
measured() { metrics | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }
# The upper bound of the bucket in which 99 of 100 reconciles have ended, of all since the operator started.
reconcile_p99() {
    metrics | awk 'match($1, /^lockstep_operator_reconcile_duration_seconds_bucket\{le="[^"]*"/) {
            bound = substr($1, RSTART, RLENGTH); gsub(/.*le="|"/, "", bound); bounds[++n] = bound; counts[n] = $2
        }
        END { for (i = 1; i <= n; i++) if (counts[i] >= 0.99 * counts[n]) { print bounds[i]; exit } }'
}

# What it may do against what it did, all through this run.
scenario_rbac() {
    if ! has_kube; then
        skip 'rbac: no audit log can be read from here'
        return
    fi
    kubectl get clusterroles,roles --all-namespaces --selector "$operator_label" --output json |
        jq --raw-output '.items[].rules[] | .apiGroups[] as $group | .resources[] as $resource | .verbs[]
            | "\(if $group == "" then "core" else $group end) \($resource) \(.)"' | sort --unique >"$logs/held"
    did . >"$logs/used"
    # What was refused while the chart was being uninstalled is not what the operator lacks.
    did 'select(.responseStatus.code == 403)' | comm -13 "$logs/held" - >"$logs/forbidden"
    figure rbac_held "$(wc --lines <"$logs/held")" count
    figure rbac_used "$(comm -12 "$logs/held" "$logs/used" | wc --lines)" count
    check 'rbac: no wildcard' without_wildcard
    check "rbac: nothing is lacking$(paste --serial "$logs/forbidden")" test ! -s "$logs/forbidden"
    comm -23 "$logs/held" "$logs/used" | while read -r group resource verb; do
        printf 'held and not used: %s %s %s%s\n' "$group" "$resource" "$verb" "$(why_held "$resource" "$verb")"
    done | tee "$logs/surplus"
    figure rbac_surplus "$(grep --count --invert-match ': for ' "$logs/surplus" || true)" count
    check 'rbac: no surplus' test -z "$(grep --invert-match ': for ' "$logs/surplus" || true)"
}
without_wildcard() { ! grep --quiet --fixed-strings '*' "$logs/held"; }
# did JQ: `group resource verb` of such requests of the operator.
did() {
    asked "select(.objectRef.resource) | $1 | \"\(.objectRef.apiGroup // \"core\") \(.objectRef.resource)\" +
        \"\(if .objectRef.subresource then \"/\" + .objectRef.subresource else \"\" end) \(.verb)\"" | sort --unique
}
# Why a verb is held although no request has it.
why_held() { # RESOURCE VERB
    case "$1 $2" in
    podmonitors\ *) echo ': for where the Prometheus operator is' ;;
    syncclusters/finalizers\ update) echo ': for where OwnerReferencesPermissionEnforcement checks it' ;;
    *\ create) if grep --quiet " $1 patch$" "$logs/used"; then echo ': for what server-side apply creates, which is a patch'; fi ;;
    esac
}
