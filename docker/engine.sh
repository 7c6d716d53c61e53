# To be sourced: finds a Docker client and Compose, and asks them about the cluster. Works with Compose
# as a plug-in (`docker compose`) and with the older program docker-compose.
#
# Needs `root`, the repository's root. Sets `docker`, the client to use.

readonly compose_file=$root/docker/docker-compose.yml
: "${COMPOSE_PROJECT_NAME:=lockstep}"
export COMPOSE_PROJECT_NAME DOCKER_BUILDKIT=1

# Finds a client that an engine answers and that can build with BuildKit: the plug-in buildx does it, or
# the client itself where it is older than version 23.
find_docker() {
    local version
    while read -r docker; do
        version=$("$docker" version --format '{{.Client.Version}}' 2>/dev/null) || continue
        if "$docker" buildx version >/dev/null 2>&1 || ((${version%%.*} < 23)); then
            export PATH=${docker%/*}:$PATH
            return 0
        fi
    done < <(type -aP docker)
    return 1
}

# compose ARGUMENTS...: Compose on this repository's file. The older program does not know the file's key
# `name`, and finds other files from the working directory.
compose() {
    if "$docker" compose version >/dev/null 2>&1; then
        "$docker" compose --file "$compose_file" "$@"
    elif command -v docker-compose >/dev/null; then
        (
            cd "$root/docker"
            sed '/^name:/d' "$compose_file" | docker-compose --file - "$@"
        )
    else
        echo 'Compose is missing: install the plug-in docker-compose-plugin' >&2
        return 1
    fi
}

# Prints the names of all nodes' containers that there are, running or not, in the order of their numbers.
node_containers() {
    "$docker" ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter label=com.docker.compose.service=node --filter label=com.docker.compose.oneoff=False \
        --format '{{.Label "com.docker.compose.container-number"}} {{.Names}}' |
        sort --numeric-sort | cut --delimiter ' ' --fields 2
}

# Prints the nodes' containers that are not healthy.
unhealthy() {
    local name status
    for name in $(node_containers); do
        status=$("$docker" inspect --format '{{.State.Status}}, {{.State.Health.Status}}' "$name")
        [[ $status == 'running, healthy' ]] || echo "$name: $status"
    done
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
        sleep 0.2
    done
}

# cli ARGUMENTS...: lockstepctl in the cluster's network.
cli() {
    compose run --rm -T cli "$@" </dev/null
}
