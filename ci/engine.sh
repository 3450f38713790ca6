#!/usr/bin/env bash
# A Docker engine of its own, where none runs (root on Debian or Ubuntu):
#
#   ci/engine.sh start FOLDER    start dockerd with all that it has in FOLDER, which must not exist
#   ci/engine.sh stop FOLDER     remove its containers, the engine and FOLDER
#
# Then DOCKER_HOST=unix://FOLDER/docker.sock. No other engine of this machine is touched: data, state,
# socket, network and cgroups are its own. Networking is without firewall rules: containers reach no
# network but this machine's, and `-p` works, by way of a proxy process.
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

fail() { echo "engine.sh: $*" >&2; exit 1; }

install_docker() {
    if command -v dockerd && command -v docker && command -v ip; then return; fi > /dev/null
    command -v apt-get > /dev/null || fail "no dockerd here, and no apt-get to install docker.io with"
    # Without this the package starts an engine as a service of the machine.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        made=$policy
    fi
    # Debian's docker.io has dockerd and the client.
    local result=0
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
        --no-install-recommends docker.io iproute2; } >&2 || result=$?
    [ -z "$made" ] || rm -f "$made"
    [ "$result" -eq 0 ] || fail "apt-get could not install docker.io"
}

make_bridge() {
    local bridge=$1 third
    ip link add "$bridge" type bridge
    # Of the last private network, which few use, the first free part.
    for third in {100..250}; do
        ip -oneline address | grep -q " 10\.213\.$third\." && continue
        ip address add "10.213.$third.1/24" dev "$bridge"
        ip link set "$bridge" up
        return
    done
    fail "no free network among 10.213.100.0/24 to 10.213.250.0/24"
}

start() {
    local folder=$1
    [ "$(id -u)" -eq 0 ] || fail "only root can start a Docker engine; install Docker, or use sudo"
    [ ! -e "$folder" ] || fail "$folder exists already"
    install_docker
    mkdir -p "$folder"
    chmod 700 "$folder"
    folder=$(realpath "$folder")
    local name
    name=triton-$(printf '%s' "$folder" | cksum | cut -c 1-7)
    echo "$name" > "$folder/name"
    echo '{}' > "$folder/daemon.json"
    make_bridge "$name"
    # In process and mount namespaces of its own: when the first process there is killed, the kernel
    # ends all the others (containerd, proxies, containers) and undoes every mount.
    # dockerd chooses its storage: overlay2, or vfs where the kernel has none, as inside a container
    # (DOCKER_DRIVER=vfs chooses that: slow, it copies whole layers). The limit on open files is for
    # programs that close every number up to it, which by Docker's default takes them minutes.
    setsid unshare --pid --fork --kill-child --mount-proc --propagation slave dockerd \
        --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/dockerd.pid" \
        --host "unix://$folder/docker.sock" --config-file "$folder/daemon.json" \
        --default-ulimit nofile=4096:4096 \
        --bridge "$name" --iptables=false --ip-forward=false --ip-masq=false \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$name" \
        < /dev/null > "$folder/log" 2>&1 &
    echo $! > "$folder/pid"
    local second
    for second in {1..60}; do
        if docker --host "unix://$folder/docker.sock" info > /dev/null 2>&1; then return; fi
        kill -0 "$(cat "$folder/pid")" 2> /dev/null || break
        sleep 1
    done
    tail -n 20 "$folder/log" >&2
    stop "$folder"
    fail "dockerd did not start within $second s; the end of its log is above"
}

stop() {
    local folder=$1 name containers
    [ -e "$folder" ] || return 0
    [ -e "$folder/name" ] || fail "$folder is not an engine's folder"
    name=$(cat "$folder/name")
    if [ -e "$folder/pid" ]; then
        export DOCKER_HOST="unix://$folder/docker.sock"
        containers=$(timeout 20 docker ps --all --quiet 2> /dev/null) || true
        # shellcheck disable=SC2086  # several words
        [ -z "$containers" ] || timeout 60 docker rm --force --volumes $containers > /dev/null || true
        kill -KILL "$(cat "$folder/pid")" 2> /dev/null || true
        while kill -0 "$(cat "$folder/pid")" 2> /dev/null; do sleep 0.1; done
    fi
    ip link delete "$name" 2> /dev/null || true
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2> /dev/null || true
    rm -rf --one-file-system "$folder"
}

[ $# -eq 2 ] || usage
case $1 in
    start) start "$2" ;;
    stop) stop "$2" ;;
    *) usage ;;
esac
