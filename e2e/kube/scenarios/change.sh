# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# What a user changes, under load.

scenario_scale() {
    local start
    start_load demo --sessions-survive
    start=$(now)
    k scale synccluster demo --replicas 5 >/dev/null
    await "$change_limit" 'demo has five nodes' unsettled demo 5
    figure scale_3_to_5 "$(since "$start")" s
    start=$(now)
    k scale synccluster demo --replicas 3 >/dev/null
    await "$change_limit" 'demo has three nodes' unsettled demo 3
    figure scale_5_to_3 "$(since "$start")" s
    check 'scale: no violations' end_load
    figure scale_longest_gap "$(gap)" s
    check 'scale: volumes of nodes that left are gone' test "$(k get pvc --output name | grep --count data-demo-)" = 3
}

scenario_roll() {
    roll config '{"log":{"filter":"info,openraft=error"}}'
    check 'roll: every pod has the new template' every_pod '.env[] | select(.value == "info,openraft=error")'
}

# To another name of the same image, and back.
scenario_roll_image() {
    if [[ -z $NEXT_IMAGE ]]; then
        skip 'roll_image: NEXT_IMAGE names no second image to roll to'
        return
    fi
    roll image "{\"image\":\"$NEXT_IMAGE\"}"
    check 'roll: every pod has the new image' every_pod "select(.image == \"$NEXT_IMAGE\")"
    check 'roll: the status names the new image' test "$(field demo .status.currentImage)" = "$NEXT_IMAGE"
    roll image_back '{"image":null}'
}

# roll WHAT PATCH: makes every pod of demo anew under load, which no session may notice.
roll() {
    local start
    start_load demo --sessions-survive
    start=$(now)
    patch_cluster demo "$2"
    await "$change_limit" 'the roll begins' unlike demo Progressing 'True *'
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure "roll_$1" "$(since "$start")" s
    check "roll of $1: no violations" end_load
    judge "roll_$1_longest_gap" "$(gap)" s "$roll_gap_goal"
}
# every_pod JQ: true if it finds something in the container of each pod of demo.
every_pod() {
    [[ $(k get pods --selector app.kubernetes.io/instance=demo --output json |
        jq "[.items[].spec.containers[0] | $1] | length") == 3 ]]
}

scenario_grow() {
    local start
    start=$(now)
    patch_cluster demo '{"storage":{"size":"2Gi"}}'
    await "$change_limit" 'the set has larger volumes' small_template
    await "$change_limit" 'every volume is larger' small_volumes
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure grow "$(since "$start")" s
}
small_template() { k get statefulset demo --output json | jq --raw-output '.spec.volumeClaimTemplates[0].spec.resources.requests.storage | select(. != "2Gi")'; }
small_volumes() { k get pvc --output json | jq --raw-output '.items[] | select(.status.capacity.storage != "2Gi") | .metadata.name'; }
