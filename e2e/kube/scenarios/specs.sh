# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# What is wrong is refused by the API server, or by the operator, which says so and touches nothing.

scenario_bad_specs() {
    local name patch before
    before=$(k get statefulset demo --output 'jsonpath={.metadata.uid} {.metadata.generation}')
    while read -r name patch; do
        if ! patch_cluster demo "$patch" 2>/dev/null; then
            echo "ok: $name is refused by the API server"
            continue
        fi
        check "bad spec: $name: condition" await 30 "$name is reported" unlike demo Degraded 'True InvalidSpec *'
        check "bad spec: $name: event" await 15 "$name has an event" eventless demo
        patch_cluster demo '{"nodes":3,"shards":8,"replicationFactor":3,"storage":{"size":"2Gi","storageClassName":null},"podTemplate":null,"raft":{"heartbeatMs":250}}'
        await 60 'demo is well again' unlike demo Degraded 'False *'
    done <<'SPECS'
shards {"shards":16}
replication-factor {"replicationFactor":1}
even-replication-factor {"replicationFactor":2}
too-few-nodes {"nodes":2}
too-many-nodes {"nodes":1000}
no-nodes {"nodes":0}
shrinking-storage {"storage":{"size":"1Gi"}}
storage-class {"storage":{"storageClassName":"other"}}
no-size {"storage":{"size":"much"}}
heartbeat {"raft":{"heartbeatMs":1000}}
overlay {"podTemplate":{"metadata":{"labels":{"app.kubernetes.io/instance":"other"}}}}
SPECS
    check 'bad specs: the StatefulSet was not touched' \
        test "$before" = "$(k get statefulset demo --output 'jsonpath={.metadata.uid} {.metadata.generation}')"
}
# Prints something unless an event says what the condition says.
eventless() {
    local message
    message=$(field "$1" '.status.conditions[] | select(.type == "Degraded") | .message')
    k get events.events.k8s.io --output json | jq --raw-output --arg message "$message" \
        'if any(.items[]; .reason == "InvalidSpec" and .note == $message) then empty else "no event" end'
}

scenario_bad_image() {
    start_load demo --sessions-survive
    patch_cluster demo '{"image":"lockstep-node:there-is-no-such-tag"}'
    check 'bad image: the roll stops and says why' await 120 'the pod is reported' unlike demo Degraded 'True PodStuck *'
    check 'bad image: two nodes serve' test "$(field demo .status.readyNodes)" = 2
    patch_cluster demo '{"image":null}'
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'bad image: no violations' end_load
}

scenario_foreign() {
    quietly k create service clusterip taken --tcp 1:1
    apply_cluster taken "{$small}"
    check 'a name that is taken is refused' await 30 'it is reported' unlike taken Degraded 'True InvalidSpec *taken*'
    check 'a name that is taken: nothing is made' test -z "$(k get statefulset taken --ignore-not-found --output name)"
    quietly k delete synccluster taken
    quietly k delete service taken
}

# A definition of an older chart: it lacks fields, and does not check what a newer one checks.
scenario_stale_crd() {
    local before restarts size saved="$logs/crd.json"
    before=$(belongings demo) restarts=$(operator_restarts) size=$(field demo .spec.storage.size)
    kubectl get crd syncclusters.lockstep.dev --output json >"$saved"
    define '(.. | objects | select(has("type"))) |= del(.minimum, .maximum, .enum, .pattern, .minLength, .maxLength)
        | walk(if type == "object" then del(."x-kubernetes-validations") else . end)
        | .[].schema.openAPIV3Schema.properties |= (del(.spec.properties.raft)
            | del(.status.properties.endpoint, .status.properties.nodes.items.properties.zone))'
    # Something of the spec changes that no pod depends on.
    patch_cluster demo '{"service":{"annotations":{"e2e":"stale"}}}'
    await 60 'demo is as wanted' unsettled demo 3
    check 'stale definition: an event says so' await 30 'there is an event' no_event StaleDefinition
    refused_by_operator nodes '{"nodes":1000}'
    refused_by_operator size '{"storage":{"size":"much"}}'
    refused_by_operator state '{"state":"Hibernating"}'
    refused_by_operator sign '{"shards":-1}'
    # What cannot even be read keeps nobody else from being kept.
    patch_cluster demo '{"state":"Hibernating"}'
    apply_cluster other "{\"replicationFactor\":1,\"nodes\":1,\"shards\":1,$small}"
    check 'stale definition: others are kept' await 60 'other is as wanted' unsettled other 1
    patch_cluster demo '{"state":"Running"}'
    await 60 'demo is as wanted' unsettled demo 3
    quietly k delete synccluster other
    # shellcheck disable=SC2016 # it is a variable of jq
    define --slurpfile saved "$saved" '$saved[0].spec.versions'
    patch_cluster demo '{"service":{"annotations":{"e2e":"fresh"}}}'
    await 60 'demo is as wanted' unsettled demo 3
    check 'stale definition: the operator went on' test "$restarts" = "$(operator_restarts)"
    check 'stale definition: nothing was made anew' unchanged demo "$before"
}
# define [OPTION...] JQ: of the definition's versions.
define() {
    kubectl get crd syncclusters.lockstep.dev --output json | jq ".spec.versions |= (${*: -1})" "${@:1:$#-1}" | kubectl replace -f - >/dev/null
}
refused_by_operator() { # NAME PATCH, with the `size` that demo had
    patch_cluster demo "$2"
    check "stale definition: $1: condition" await 30 "$1 is reported" unlike demo Degraded 'True InvalidSpec *'
    patch_cluster demo "{\"nodes\":3,\"shards\":8,\"state\":\"Running\",\"storage\":{\"size\":\"$size\"}}"
    await 60 'demo is well again' unlike demo Degraded 'False *'
}
no_event() { # REASON
    k get events.events.k8s.io --output json | jq --raw-output --arg reason "$1" 'if any(.items[]; .reason == $reason) then empty else "no event" end'
}
