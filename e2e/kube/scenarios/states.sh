# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# States that real clusters reach: what people and policies do to a cluster. Nobody's data is lost by them, and
# each is said.

# Without the pods, which are made anew.
kept() { belongings "$1" | grep --invert-match --extended-regexp '^Pod |generation'; }
same_kept() { diff <(echo "$2") <(kept "$1") >&2; }

# A pod that waits for a Secret is not a machine that is lost, however short that is waited for.
scenario_missing_secret() {
    local before
    before=$(kept demo)
    start_load demo --sessions-survive
    patch_cluster demo '{"replaceLostNodesAfter":"30s","podTemplate":{"spec":{"containers":[{"name":"lockstep","envFrom":[{"secretRef":{"name":"absent"}}]}]}}}'
    check 'missing secret: it is said' await 120 'the pod is reported' unlike demo Degraded 'True PodStuck *absent*'
    # Longer than a lost machine is waited for.
    sleep 40
    check 'missing secret: no volume goes, no node leaves' same_kept demo "$before"
    check 'missing secret: two nodes serve' test "$(field demo .status.readyNodes)" = 2
    patch_cluster demo '{"podTemplate":null,"replaceLostNodesAfter":"20s"}'
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'missing secret: nothing was made anew but pods' same_kept demo "$before"
    check 'missing secret: no violations' end_load
}

scenario_scaled_by_hand() {
    local before
    before=$(kept demo)
    k scale statefulset demo --replicas 1 >/dev/null
    check 'scaled by hand: it is said' await 60 'there is an event' no_event ScaleUndone
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'scaled by hand: it is undone' test "$(k get statefulset demo --output 'jsonpath={.spec.replicas}')" = 3
    check 'scaled by hand: no volume goes, no node leaves' same_kept demo "$before"
}

# Objects that merely have the cluster's name.
scenario_foreign_objects() {
    local policy='{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"named"},"spec":{"podSelector":{"matchLabels":{"their":"own"}}}}'
    k apply -f - <<<"$policy" >/dev/null
    k create serviceaccount named >/dev/null
    apply_cluster named "{\"replicationFactor\":1,\"nodes\":1,\"shards\":1,$small}"
    check 'foreign ServiceAccount: it is said' await 60 'it is reported' unlike named Degraded 'True InvalidSpec *ServiceAccount named*'
    check 'foreign ServiceAccount: nothing is made' test -z "$(k get statefulset named --ignore-not-found --output name)"
    check 'foreign ServiceAccount: it is left alone' test -z "$(k get serviceaccount named --output 'jsonpath={.metadata.ownerReferences}')"
    k delete serviceaccount named >/dev/null
    k annotate synccluster named e2e=again >/dev/null
    await "$create_limit" 'named serves' unlike named Available 'True *'
    check 'foreign NetworkPolicy: it is said' await 60 'it is reported' unlike named Degraded 'True ForeignObject *NetworkPolicy named*'
    patch_cluster named '{"networkPolicy":{"enabled":false}}'
    await 60 'nothing is missing' unlike named Degraded 'False *'
    k delete synccluster named --timeout 60s >/dev/null
    await 60 'its pods are gone' pods_of named
    check 'foreign NetworkPolicy: it is left as it was' test "$(k get networkpolicy named --output 'jsonpath={.spec.podSelector.matchLabels.their}')" = own
    k delete networkpolicy named >/dev/null
}

# Another container of the pods crashes with a new template: it goes no further than one pod.
scenario_sidecar() {
    start_load demo --sessions-survive
    start_count demo
    patch_cluster demo "{\"podTemplate\":{\"spec\":{\"containers\":[{\"name\":\"side\",\"image\":\"$CLI_IMAGE\",\"imagePullPolicy\":\"IfNotPresent\",\"args\":[\"no-such-command\"]}]}}}"
    check 'sidecar: it is said' await 120 'the pod is reported' unlike demo Degraded 'True PodStuck *'
    sleep 20
    check 'sidecar: one pod has it' test "$(pods_with side)" = 1
    patch_cluster demo '{"podTemplate":null}'
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'sidecar: two pods are ready all the time' test "$(end_count)" -ge 2
    check 'sidecar: no violations' end_load
}
pods_with() { k get pods --selector app.kubernetes.io/instance=demo --output json | jq "[.items[] | select(any(.spec.containers[]; .name == \"$1\"))] | length"; }

# A webhook denies what the cluster can do without; a node on a lost volume is built anew all the same.
scenario_denied_policy() {
    local before
    before=$(field demo '.status.nodes[] | select(.name == "demo-2") | .id')
    kubectl apply -f - <<WEBHOOK >/dev/null
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: lockstep-e2e}
webhooks:
  - name: denied.e2e.lockstep.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    timeoutSeconds: 1
    failurePolicy: Fail
    clientConfig: {service: {name: nobody, namespace: $namespace}}
    rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies]}]
WEBHOOK
    k delete networkpolicy demo >/dev/null
    check 'denied policy: it is said' await 90 'it is reported' unlike demo Degraded 'True ObjectRefused *NetworkPolicy*'
    k delete pvc data-demo-2 --wait=false >/dev/null
    k delete pod demo-2 --grace-period 0 --force >/dev/null 2>&1
    check 'denied policy: a lost volume is made up for' await "$change_limit" 'demo-2 is another node' same_node demo-2 "$before"
    kubectl delete validatingwebhookconfiguration lockstep-e2e >/dev/null
    k annotate synccluster demo --overwrite "e2e=$RANDOM" >/dev/null
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'denied policy: it is there again' await 120 'nothing is missing' unlike demo Degraded 'False *'
}

scenario_quota() {
    k create quota none --hard pods=0 >/dev/null
    k delete pod demo-1 --grace-period 0 --force >/dev/null 2>&1
    check 'quota: it is said' await 120 'it is reported' unlike demo Degraded 'True PodNotCreated *quota*'
    k delete quota none >/dev/null
    # The StatefulSet's controller tries again at longer and longer intervals.
    await "$change_limit" 'demo is as wanted' unsettled demo 3
}

# All of a cluster goes with its namespace, and the operator minds the others.
scenario_namespace() {
    local restarts other="$namespace-gone"
    restarts=$(operator_restarts)
    kubectl create namespace "$other" >/dev/null
    printf '{"apiVersion":"lockstep.dev/v1alpha1","kind":"SyncCluster","metadata":{"name":"gone"},"spec":{"replicationFactor":1,"nodes":1,"shards":1,%s}}' "$small" |
        kubectl -n "$other" apply -f - >/dev/null
    await "$create_limit" 'gone serves' serves_not "$other" gone
    kubectl delete namespace "$other" --wait=false >/dev/null
    check 'namespace: it goes' await 180 'it is gone' kubectl get namespace "$other" --ignore-not-found --output name
    check 'namespace: the operator goes on' test "$restarts" = "$(operator_restarts)"
    patch_cluster demo '{"service":{"annotations":{"e2e":"namespace"}}}'
    check 'namespace: the others are kept' await 60 'demo is as wanted' unsettled demo 3
}
serves_not() {
    kubectl -n "$1" get synccluster "$2" --output json | jq --raw-output 'if any(.status.conditions[]?; .type == "Available" and .status == "True") then empty else "not yet" end'
}

# While a node is built anew on an empty volume, another machine is drained: it has to wait.
scenario_drain_replacing() {
    local before machine
    if [[ $(machines_of_demo | sort --unique | wc -l) != 3 ]]; then
        skip 'drain_replacing: pods of demo share a machine'
        return
    fi
    before=$(field demo '.status.nodes[] | select(.name == "demo-2") | .id') machine=$(machine_of demo-1)
    start_load demo --sessions-survive
    start_count demo
    k delete pvc data-demo-2 --wait=false >/dev/null
    k delete pod demo-2 --grace-period 0 --force >/dev/null 2>&1
    check "drain during a replacement: $machine can be drained in the end" drained "$machine" 240s
    check 'drain during a replacement: not before that was done' test -z "$(same_node demo-2 "$before")"
    kubectl uncordon "$machine" >/dev/null
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    check 'drain during a replacement: two nodes are ready all the time' test "$(end_count)" -ge 2
    check 'drain during a replacement: no violations' end_load
}
