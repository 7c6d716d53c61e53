#!/usr/bin/env bash
# Runs the scenarios of e2e/kube/run on a Kubernetes made for that: e2e/kind.sh [SCENARIO...]. Needs Docker,
# kind, kubectl, helm and jq; three workers' worth of memory (about 4 GiB). Of the images, those that
# NODE_IMAGE, OPERATOR_IMAGE, CLI_IMAGE and LOAD_IMAGE name are taken; the others are built.
#
# KEEP=1 leaves the Kubernetes there: kind export kubeconfig --name lockstep-e2e.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
readonly name=lockstep-e2e

missing=0
need() { # PROGRAM WHERE
    command -v "$1" >/dev/null || { echo "$1 is missing: $2" >&2; missing=1; }
}
need docker 'https://docs.docker.com/engine/install'
need kind 'https://kind.sigs.k8s.io'
need kubectl 'https://kubernetes.io/docs/tasks/tools'
need helm 'https://helm.sh/docs/intro/install'
need jq "your system's package jq"
((missing == 0)) || exit 1
docker version --format '{{.Server.Version}}' >/dev/null || { echo 'no Docker engine answers' >&2; exit 1; }
if kind get clusters 2>/dev/null | grep --quiet --line-regexp "$name"; then
    echo "there is a kind cluster $name already: kind delete cluster --name $name" >&2
    exit 1
fi

# An image that is named is taken as it is; the scenarios' own load is built outside of its image.
wanted=()
[[ -n ${NODE_IMAGE:-} ]] || wanted+=(node)
[[ -n ${OPERATOR_IMAGE:-} ]] || wanted+=(operator)
[[ -n ${CLI_IMAGE:-} ]] || wanted+=(cli)
((${#wanted[@]} == 0)) || docker/images '' "${wanted[@]}"
if [[ -z ${LOAD_IMAGE:-} ]]; then
    make build
    mkdir -p docker/prebuilt
    strip --strip-debug -o docker/prebuilt/lockstep-drill \
        "${CARGO_TARGET_DIR:-$HOME/.cache/lockstep/target}/release/lockstep-drill"
    docker build --quiet --file e2e/compose/load.Dockerfile --tag lockstep-load:dev . >/dev/null
fi
export NODE_IMAGE=${NODE_IMAGE:-lockstep-node:dev} OPERATOR_IMAGE=${OPERATOR_IMAGE:-lockstep-operator:dev}
export CLI_IMAGE=${CLI_IMAGE:-lockstep-cli:dev} LOAD_IMAGE=${LOAD_IMAGE:-lockstep-load:dev}

KUBECONFIG=$(mktemp)
export KUBECONFIG
clean_up() {
    [[ ${KEEP:-} == 1 ]] || kind delete cluster --name "$name"
    rm -f "$KUBECONFIG"
}
trap clean_up EXIT
kind create cluster --name "$name" --wait 120s --config - <<'CONFIG'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
  - role: worker
  - role: worker
  - role: worker
CONFIG
kind load docker-image --name "$name" "$NODE_IMAGE" "$OPERATOR_IMAGE" "$CLI_IMAGE" "$LOAD_IMAGE"
e2e/kube/run "$@"
