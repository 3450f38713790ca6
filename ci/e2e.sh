#!/usr/bin/env bash
# The end-to-end tests in a real container, and all that they take:
#
#   ci/e2e.sh [PYTEST OPTION...]
#
# A Docker engine that answers is used; where there is none, one of its own runs meanwhile (as root
# on Debian). Variables:
#   TRITON_STUB_BASE    image to build on: NVIDIA's, or where that cannot be had the CPU image that
#                       ci/base.sh makes (triton-cpu:24.10)
#   TRITON_STUB_GPU=1   on a machine with a GPU: build for it, and run its tests too
#   TRITON_STUB_CACHE   folder for what is downloaded (~/.cache/triton-stub)
#
# Needs python3 with venv. Afterwards, whatever happened, nothing runs, is mounted or is on the disk
# that was not before, but packages, the cache, and in an engine that was there its images.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cpu
pytest_options=("$@")
if [ "${TRITON_STUB_GPU:-}" = 1 ]; then
    device=gpu
    pytest_options=(--triton-gpus=all "$@")
fi
cpu_base=triton-cpu:24.10
nvidia_base=$(sed -n 's/^ARG BASE=//p' ci/Dockerfile)  # the tag is there only
image=triton-jax:$device
export TRITON_STUB_CACHE=${TRITON_STUB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/triton-stub}

say() { echo "e2e.sh: $* ($SECONDS s)"; }

# An engine that is there, as docker-py finds it too, or one of its own.
find_engine() {
    local said
    if said=$(timeout 20 docker info 2>&1 > /dev/null); then
        DOCKER_HOST=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')}
        say "using the Docker engine at $DOCKER_HOST"
    else
        say "starting a Docker engine, as none answers: $said"
        own_engine=yes
        DOCKER_HOST=unix://$scratch/engine/docker.sock
        ci/engine.sh start "$scratch/engine"
    fi
    export DOCKER_HOST
}

find_base() {
    base=${TRITON_STUB_BASE:-$nvidia_base}
    if [ "$device" = gpu ] || [ -n "${TRITON_STUB_BASE:-}" ]; then return; fi
    # An engine of its own starts without images, and NVIDIA's is 7 GB to download.
    if [ -n "${own_engine:-}" ] || ! docker pull --quiet "$base"; then base=$cpu_base; fi
}

build() {
    local context=(--directory ci Dockerfile "requirements-$device.txt") python wheels
    if [ "$base" = "$cpu_base" ]; then
        ci/base.sh "$base"
        # Downloaded here, because the build has no network in an engine of its own.
        python=$(docker run --rm "$base" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        wheels=$TRITON_STUB_CACHE/wheels-$python-$(sha256sum "ci/requirements-$device.txt" | cut -c 1-16)
        (
            flock 9  # one at a time
            [ ! -e "$wheels/wheels" ] || exit 0
            rm -rf "$TRITON_STUB_CACHE"/wheels-*/
            python3 ci/wheels.py "ci/requirements-$device.txt" "$python" "$wheels/new"
            mv "$wheels/new" "$wheels/wheels"  # only when it is whole
        ) 9> "$TRITON_STUB_CACHE/wheels.lock"
        context+=(--directory "$wheels" wheels)
        say "$base and its wheels are there"
    fi
    tar --create "${context[@]}" | docker build --force-rm --tag "$image" \
        --build-arg "BASE=$base" --build-arg "DEVICE=$device" - > "$scratch/build.log" 2>&1 ||
        { tail -n 40 "$scratch/build.log" >&2; say "docker build failed, see above"; exit 1; }
    say "$image is built on $base"
}

everything() {
    # Else bash goes on after a program that exits when it is interrupted, as most do.
    trap 'exit 130' INT
    python3 -m venv "$scratch/venv"
    export PATH=$scratch/venv/bin:$PATH
    python3 -m pip install --quiet nox uv
    find_engine
    find_base
    build
    # Ryuk is a container of testcontainers that ends forgotten ones; its image is in a registry.
    export TRITON_STUB_IMAGE=$image TESTCONTAINERS_RYUK_DISABLED=true
    # As a background job of a script this may have been started with SIGINT ignored.
    env --default-signal=INT nox --session e2e -- "${pytest_options[@]}"
    say "passed"
}

clean_up() {
    local status=$? job=${!:-}
    trap '' INT TERM HUP  # once
    if [ -n "$job" ] && kill -INT -- "-$job" 2> /dev/null; then
        # Interrupted: the tests end their containers.
        for _ in {1..1300}; do
            kill -0 -- "-$job" 2> /dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$job" 2> /dev/null || true
    fi
    ci/engine.sh stop "$scratch/engine" || status=1
    rm -rf "$scratch"
    exit "$status"
}

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/triton-e2e.XXXXXX")
export TMPDIR=$scratch  # what base.sh and the tests leave goes with it
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# In the background, since bash runs no trap before a command in the foreground ends; in a process
# group of its own, so that all of it can be told to end.
set -m
everything < /dev/null &
wait "$!"
