# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# A cluster is made, used, stopped, and deleted.

scenario_install() {
    local start chart
    for chart in charts/lockstep-crds charts/lockstep; do
        check "helm lint $chart" helm lint "$chart"
    done
    start=$(now)
    helm install "$release-crds" charts/lockstep-crds -n "$operator_namespace" --create-namespace >/dev/null
    helm install "$release" charts/lockstep -n "$operator_namespace" --set "$(helm_images)" --wait --timeout 120s >/dev/null
    figure install "$(since "$start")" s
    quietly kubectl create namespace "$namespace"
    check 'the definition explains itself' explains
}
explains() { await 20 'kubectl explain answers' unexplained; }
unexplained() { [[ $(kubectl explain synccluster.spec.raft.heartbeatMs) == *milliseconds* ]] || echo 'no answer'; }

scenario_create() {
    local start took
    start=$(now)
    apply_cluster demo "{\"replaceLostNodesAfter\":\"20s\",$small}"
    await "$create_limit" 'demo is available' unlike demo Available 'True *'
    took=$(since "$start")
    judge create_to_available "$took" s "$create_goal"
    await "$create_limit" 'demo is as wanted' unsettled demo 3
    figure create_to_settled "$(since "$start")" s
    k get synccluster demo
}

scenario_lock() {
    check 'a lock is taken from a pod' cli demo lock run hello -- lockstepctl --endpoints demo:7400 lock show hello
}

scenario_plugin() {
    if [[ ! -x $PLUGIN ]]; then
        skip 'plugin: PLUGIN names no program'
        return
    fi
    check 'plugin: the status comes through the API server' plugin_status
    # shellcheck disable=SC2016 # the command below expands it
    check 'plugin: a lock is held while a command runs here' \
        plugin lock run nightly -- sh -c 'test "$LOCKSTEP_TOKEN" -gt 0'
    check 'plugin: exit codes are those of lockstepctl' plugin_fails
}
plugin() { timeout 60 "$PLUGIN" --namespace "$namespace" --cluster demo "$@"; }
plugin_status() { [[ $(plugin status --output json | jq '.nodes | length') == 3 ]]; }
plugin_fails() {
    local code=0
    plugin lock run nightly -- sh -c 'exit 42' || code=$?
    ((code == 42))
}

scenario_stop() {
    patch_cluster demo '{"state":"Stopped"}'
    await 120 'demo has stopped' podless
    check 'stop: volumes stay' test "$(k get pvc --output name | grep --count data-demo-)" = 3
    patch_cluster demo '{"state":"Running"}'
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'stop: the lock service is back' cli demo lock run again -- lockstepctl --endpoints demo:7400 lock show again
}
podless() { k get pods --selector app.kubernetes.io/instance=demo --output name; }

scenario_delete() {
    k delete synccluster demo --timeout 60s >/dev/null
    await 120 'pods are gone' podless
    check 'delete: volumes are deleted' await 60 'volumes are gone' volumes_of demo
    apply_cluster kept "{\"replicationFactor\":1,\"nodes\":1,${small/Delete/Retain}}"
    await "$create_limit" 'kept is as wanted' unsettled kept 1
    k delete synccluster kept --timeout 60s >/dev/null
    await 60 'its pods are gone' pods_of kept
    check 'retain: the volume stays' test -n "$(volumes_of kept)"
    apply_cluster kept "{\"replicationFactor\":1,\"nodes\":1,${small/Delete/Retain}}"
    await "$create_limit" 'kept is as wanted again, with its old volume' unsettled kept 1
    k delete synccluster kept --timeout 60s >/dev/null
}
volumes_of() { k get pvc --output name | grep "data-$1-" || true; }
pods_of() { k get pods --selector "app.kubernetes.io/instance=$1" --output name; }
