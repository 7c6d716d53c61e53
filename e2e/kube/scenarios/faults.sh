# shellcheck shell=bash disable=SC2154 # what is not set here is set in e2e/kube/run or lib.sh
# What breaks beneath a cluster: pods, volumes, machines, the network, the API server.

scenario_kill() {
    local start
    start_load demo
    start=$(now)
    k delete pod demo-1 --grace-period 0 --force >/dev/null 2>&1
    await 60 'the loss is seen' seen_away
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure kill_to_settled "$(since "$start")" s
    check 'kill: no violations' end_load
    figure kill_longest_gap "$(gap)" s
}
seen_away() { [[ $(field demo .status.phase) != Running || $(field demo .status.readyNodes) != 3 || $(k get pod demo-1 --output 'jsonpath={.status.containerStatuses[0].ready}') == true ]] || echo 'not yet'; }

scenario_volume() {
    local start before
    before=$(field demo '.status.nodes[] | select(.name == "demo-2") | .id')
    start=$(now)
    k delete pvc data-demo-2 --wait=false >/dev/null
    k delete pod demo-2 --grace-period 0 --force >/dev/null 2>&1
    await "$change_limit" 'demo-2 is another node' same_node demo-2 "$before"
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure volume_lost_to_settled "$(since "$start")" s
}
# same_node POD ID
same_node() { [[ $(field demo "[.status.nodes[] | select(.name == \"$1\" and .ready) | .id] | max") -gt $2 ]] || field demo .status.phase; }

# One node of three is cut off, then two, for longer than an election and shorter than anybody is given up.
scenario_partition() {
    if ! has_kube; then
        skip 'partition: pods of this cluster cannot be cut off from here'
        return
    fi
    local start before
    patch_cluster demo '{"replaceLostNodesAfter":"5m"}'
    await 60 'demo is as wanted' unsettled demo 3
    before=$(belongings demo)
    start_load demo
    start=$(now)
    cut_off demo-1
    await 60 'the loss is seen' unlike demo Degraded 'True *'
    figure partition_to_reported "$(since "$start")" s
    check 'partition of one: quorum is healthy' condition_is demo QuorumHealthy 'True *'
    kube heal
    start=$(now)
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure partition_healed_to_settled "$(since "$start")" s
    check 'partition of one: no violations' end_load
    figure partition_longest_gap "$(gap)" s
    check 'partition of one: nothing was made anew' unchanged demo "$before"

    start_load demo
    start=$(now)
    cut_off demo-0 demo-2
    await 90 'the loss of the quorum is seen' unlike demo QuorumHealthy 'False *'
    figure quorum_lost_to_reported "$(since "$start")" s
    check 'partition of two: says what a person may run' condition_is demo Degraded 'True QuorumLost *lockstepctl recover*'
    kube heal
    start=$(now)
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure quorum_healed_to_settled "$(since "$start")" s
    check 'partition of two: no violations' end_load
    figure quorum_lost_longest_gap "$(gap)" s
    check 'partition of two: nothing was made anew' unchanged demo "$before"
}

# cut_off POD...: from every other pod, until `kube heal`. Connections that are open have to be cut, too, so the
# rules of the cut have to stand before those of kube-proxy.
cut_off() {
    kube partition "${@/#/$namespace/}" >/dev/null
    iptables --delete FORWARD --jump KUBE-LOCAL-CUT
    iptables --insert FORWARD --jump KUBE-LOCAL-CUT
}

# While a scale-up and a scale-down are under way.
scenario_api_server() {
    if ! has_kube; then
        skip 'api_server: the API server cannot be restarted from here'
        return
    fi
    local start before nodes
    before=$(operator_restarts)
    start_load demo --sessions-survive
    for nodes in 4 3; do
        start=$(now)
        k scale synccluster demo --replicas "$nodes" >/dev/null
        await "$change_limit" 'it begins' unlike demo Progressing 'True *'
        kube restart apiserver
        await 60 'the API server is back' api_silent
        figure "api_server_away_at_scale_to_$nodes" "$(since "$start")" s
        await "$change_limit" "demo has $nodes nodes" unsettled demo "$nodes"
        figure "api_server_restarted_scale_to_$nodes" "$(since "$start")" s
    done
    check 'API server restarted: no violations' end_load
    figure api_server_restarted_longest_gap "$(gap)" s
    figure api_server_restarted_operator_restarts "$(($(operator_restarts) - before))" count
}

# All machines are drained, one after another, and a second one while the first is away.
scenario_drain() {
    local start before machine other index took fewest
    patch_cluster demo '{"replaceLostNodesAfter":"5m"}'
    await 60 'demo is as wanted' unsettled demo 3
    before=$(field demo '.status.nodes[] | "\(.name) \(.id)"')
    if [[ $(machines_of_demo | sort --unique | wc -l) != 3 ]]; then
        skip 'drain: pods of demo share a machine'
        return
    fi
    start_load demo --sessions-survive
    start_count demo
    for index in 0 1 2; do
        machine=$(machine_of "demo-$index") other=$(machine_of "demo-$(((index + 1) % 3))")
        start=$(now)
        check "drain: $machine can be drained" drained "$machine" 120s
        took=$(since "$start")
        check "drain: $other cannot be drained meanwhile" refused "$other"
        quietly kubectl uncordon "$other"
        start=$(now)
        quietly kubectl uncordon "$machine"
        await "$change_limit" 'demo is as wanted' unsettled demo 3
        figure "drain_machine_of_pod_$index" "$took" s
        figure "uncordon_machine_of_pod_$index" "$(since "$start")" s
    done
    fewest=$(end_count)
    figure drain_fewest_ready "$fewest" count
    check 'drain: two nodes are ready all the time' test "$fewest" -ge 2
    check 'drain: no violations' end_load
    figure drain_longest_gap "$(gap)" s
    check 'drain: nobody was replaced' test "$before" = "$(field demo '.status.nodes[] | "\(.name) \(.id)"')"
}
machines_of_demo() { for pod in demo-0 demo-1 demo-2; do machine_of "$pod" && echo; done; }
# drained MACHINE TIMEOUT
drained() {
    kubectl drain "$1" --pod-selector app.kubernetes.io/instance=demo --timeout "$2" >"$logs/drain" 2>&1 || { cat "$logs/drain" && return 1; }
}
refused() {
    ! kubectl drain "$1" --pod-selector app.kubernetes.io/instance=demo --timeout 8s >"$logs/drain" 2>&1 &&
        grep --quiet 'disruption budget' "$logs/drain"
}

# A pod of demo whose machine can be stopped without taking the operator or the load with it.
pick_pod() {
    local pod taken
    taken=$(operators --output 'jsonpath={.items[*].spec.nodeName}')
    taken="$taken $(machine_of load)"
    for pod in demo-2 demo-1 demo-0; do
        if [[ " $taken " != *" $(machine_of "$pod") "* ]]; then
            echo "$pod"
            return
        fi
    done
    echo 'no machine has a pod of demo and neither the operator nor the load' >&2
    return 1
}

# A machine loses power, and is back before its node is given up.
scenario_machine_back() {
    if ! has_kube; then
        skip 'machine_back: machines of this cluster cannot be stopped from here'
        return
    fi
    local start before victim machine
    patch_cluster demo '{"replaceLostNodesAfter":"5m"}'
    await 60 'demo is as wanted' unsettled demo 3
    before=$(belongings demo)
    start_load demo
    victim=$(pick_pod) machine=$(machine_of "$victim")
    start=$(now)
    kube node stop "${machine##*-}"
    await 60 'the loss is reported' unlike demo Degraded 'True *'
    figure machine_lost_to_reported "$(since "$start")" s
    await 60 'Kubernetes has noticed, too' machine_there "$machine"
    start=$(now)
    kube node start "${machine##*-}"
    await "$change_limit" 'the machine is back' machine_away "$machine"
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure machine_back_to_settled "$(since "$start")" s
    check 'machine back: no violations' end_load
    figure machine_back_longest_gap "$(gap)" s
    check 'machine back: nothing was made anew' unchanged demo "$before"
}

# A machine loses power, and never comes back.
scenario_machine() {
    if ! has_kube; then
        skip 'machine: machines of this cluster cannot be stopped from here'
        return
    fi
    local start victim machine before
    patch_cluster demo '{"replaceLostNodesAfter":"30s"}'
    await 60 'demo is as wanted' unsettled demo 3
    start_load demo
    victim=$(pick_pod) machine=$(machine_of "$victim")
    before=$(field demo ".status.nodes[] | select(.name == \"$victim\") | .id")
    start=$(now)
    kube node stop "${machine##*-}"
    await "$change_limit" "$victim is another node, elsewhere" same_node "$victim" "$before"
    await "$change_limit" 'demo is as wanted' unsettled demo 3
    figure machine_lost_to_settled "$(since "$start")" s
    check 'machine lost: no violations' end_load
    figure machine_lost_longest_gap "$(gap)" s
    kube node start "${machine##*-}"
    await "$change_limit" 'the machine is back' machine_away "$machine"
}
machine_is() { kubectl get node "$1" --output json | jq --raw-output '.status.conditions[] | select(.type == "Ready") | .status'; }
machine_away() { [[ $(machine_is "$1") == True ]] || echo 'not ready'; }
machine_there() { [[ $(machine_is "$1") != True ]] || echo 'ready'; }
