# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# The operator itself: it dies, there are several of it, it is upgraded, it idles.

scenario_operator_killed() {
    local start
    start_load demo --sessions-survive
    start=$(now)
    k scale synccluster demo --replicas 4 >/dev/null
    for _ in 1 2 3 4; do
        quietly operators_delete --grace-period 0 --force
        sleep 3
    done
    await "$change_limit" 'demo has four nodes' unsettled demo 4
    k scale synccluster demo --replicas 3 >/dev/null
    for _ in 1 2 3 4; do
        quietly operators_delete --grace-period 0 --force
        sleep 3
    done
    await "$change_limit" 'demo has three nodes' unsettled demo 3
    figure operator_killed_scale_3_4_3 "$(since "$start")" s
    check 'operator killed: no violations' end_load
}
operators_delete() { kubectl -n "$operator_namespace" delete pod --selector "$operator_label" "$@"; }

# Two operators share a lease. The one that acts ends in order, and then another hangs, each in the middle of
# a scale.
scenario_operators() {
    local start first restarts
    upgrade --set replicas=2
    await 60 'two operators are ready' operators_missing 2
    start_load demo --sessions-survive
    first=$(leader)
    k scale synccluster demo --replicas 4 >/dev/null
    await 60 'it begins' unlike demo Progressing 'True *'
    start=$(now)
    quietly kubectl -n "$operator_namespace" delete pod "$first" --wait=false
    await 60 'another one acts' led_still_by "$first"
    figure operator_ends_to_another_acts "$(since "$start")" s
    await "$change_limit" 'demo has four nodes' unsettled demo 4
    figure operator_ends_scale_3_to_4 "$(since "$start")" s
    await 60 'two operators are ready' operators_missing 2
    if ! has_kube; then
        skip 'operators: the process of one cannot be halted from here'
        k scale synccluster demo --replicas 3 >/dev/null
        await "$change_limit" 'demo has three nodes' unsettled demo 3
    else
        first=$(leader) restarts=$(operator_restarts)
        k scale synccluster demo --replicas 3 >/dev/null
        await 60 'it begins' unlike demo Progressing 'True *'
        start=$(now)
        kill -STOP "$(operator_pid "$first")"
        await 60 'another one acts' led_still_by "$first"
        figure operator_hangs_to_another_acts "$(since "$start")" s
        # It may believe that it holds the lease still, and may do no harm.
        kill -CONT "$(operator_pid "$first")"
        await "$change_limit" 'demo has three nodes' unsettled demo 3
        figure operator_hangs_scale_4_to_3 "$(since "$start")" s
        check 'two operators: one that wakes up late ends itself' await 30 'it has' not_restarted "$restarts"
    fi
    check 'two operators: no violations' end_load
    upgrade --set replicas=1
    await 60 'one operator is ready' operators_missing 1
}
not_restarted() { (($(operator_restarts) > $1)) || echo 'it goes on'; }
# Of the operator in this pod.
operator_pid() {
    local pid
    for pid in $(pgrep --exact lockstep-operat); do
        if grep --quiet --null-data --line-regexp "POD_NAME=$1" "/proc/$pid/environ"; then
            echo "$pid"
        fi
    done
}
# upgrade [OPTION...]: of the release, with the images of this run.
upgrade() { helm upgrade "$release" charts/lockstep -n "$operator_namespace" --set "$(helm_images)" --wait --timeout 120s "$@" >/dev/null; }
operators_missing() {
    local count
    count=$(operators --output json | jq '[.items[] | select(any(.status.containerStatuses[]?; .ready))] | length')
    [[ $count == "$1" ]] || echo "$count"
}
led_still_by() {
    local now
    now=$(leader)
    [[ -n $now && $now != "$1" ]] || echo "${now:-nobody}"
}

# Somebody installs a second release: two operators act on the same cluster, by leases of their own.
scenario_releases() {
    local start before
    helm install "$release" charts/lockstep -n "$operator_namespace-2" --create-namespace --set "$(helm_images)" --wait --timeout 120s >/dev/null
    await 60 'the second one acts, too' second_idle
    before=$(belongings demo)
    start_load demo --sessions-survive
    start=$(now)
    k scale synccluster demo --replicas 4 >/dev/null
    await "$change_limit" 'demo has four nodes' unsettled demo 4
    k scale synccluster demo --replicas 3 >/dev/null
    await "$change_limit" 'demo has three nodes' unsettled demo 3
    figure two_releases_scale_3_4_3 "$(since "$start")" s
    check 'two releases: no violations' end_load
    check 'two releases: only what was asked for' test "$(grep Pod <<<"$before")" = "$(belongings demo | grep Pod)"
    quietly helm uninstall "$release" -n "$operator_namespace-2"
    quietly kubectl delete namespace "$operator_namespace-2" --timeout 60s
}
second_idle() { [[ -n $(leader "$operator_namespace-2") ]] || echo 'no lease'; }

# The chart is upgraded, rolled back, uninstalled and installed again: clusters do not notice.
scenario_upgrade() {
    local start before
    before=$(belongings demo)
    start_load demo --sessions-survive
    start=$(now)
    upgrade --set log.filter=warn
    figure upgrade "$(since "$start")" s
    start=$(now)
    if helm rollback "$release" 1 -n "$operator_namespace" >"$logs/rollback" 2>&1; then
        await 60 'the deployment is as before' other_log warn
        await 60 'one operator is ready' operators_missing 1
        figure rollback "$(since "$start")" s
    elif grep --quiet 'wait strategy not set' "$logs/rollback"; then
        skip 'upgrade: the helm of this machine lacks what a rollback needs'
    else
        check "rollback: $(cat "$logs/rollback")" false
    fi
    quietly helm uninstall "$release" -n "$operator_namespace"
    quietly helm uninstall "$release-crds" -n "$operator_namespace"
    await 60 'the operator is gone' operators --output name
    check 'uninstalled: the definition stays' quietly kubectl get crd syncclusters.lockstep.dev
    check 'uninstalled: no violations' end_load
    check 'uninstalled: locks are granted' cli demo lock run orphan -- lockstepctl --endpoints demo:7400 lock show orphan
    start=$(now)
    helm install "$release-crds" charts/lockstep-crds -n "$operator_namespace" >/dev/null
    helm install "$release" charts/lockstep -n "$operator_namespace" --set "$(helm_images)" --wait --timeout 120s >/dev/null
    patch_cluster demo '{"service":{"annotations":{"e2e":"again"}}}'
    await 60 'demo is kept again' unsettled demo 3
    figure installed_again_to_kept "$(since "$start")" s
    check 'upgrade: nothing was made anew' unchanged demo "$before"
}
other_log() {
    kubectl -n "$operator_namespace" get deployment "$release" --output json |
        jq --raw-output '.spec.template.spec.containers[0].env[] | select(.name == "LOCKSTEP_OPERATOR_LOG") | .value' | grep "$1" || true
}
