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

give_up() {
    tail -n 20 "$folder/log" >&2
    stop "$folder"
    fail "$1; the end of its log is above"
}

install_docker() {
    if command -v dockerd && command -v docker && command -v ip; then return; fi > /dev/null
    command -v apt-get > /dev/null || fail "no dockerd here, and no apt-get to install docker.io with"
    # Without this the package starts an engine as a service of the machine.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | install -m 755 /dev/stdin "$policy"
    fi
    # docker.io has dockerd, and until Debian 12 the client, of which newer ones have a package.
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends docker.io iproute2 &&
        { command -v docker || apt-get install --yes --no-install-recommends docker-cli; }; } \
        > "$folder/log" 2>&1 || give_up "apt-get could not install docker.io"
}

make_bridge() {
    local bridge=$1 third
    ip link add "$bridge" type bridge ||
        { stop "$folder"; fail "no network bridge can be made here; in a container, run it privileged"; }
    # The first of these private networks that nobody uses here.
    for third in {100..250}; do
        ip -oneline address | grep " 10\.213\.$third\." > /dev/null && continue
        ip address add "10.213.$third.1/24" dev "$bridge"
        ip link set "$bridge" up
        return
    done
    stop "$folder"
    fail "no free network among 10.213.100.0/24 to 10.213.250.0/24"
}

start() {
    local folder=$1
    [ "$(id -u)" -eq 0 ] || fail "only root can start a Docker engine; install Docker, or use sudo"
    [ ! -e "$folder" ] || fail "$folder exists already"
    (umask 077 && mkdir -p "$folder")
    folder=$(realpath "$folder")
    local name
    name=triton-$(printf '%s' "$folder" | cksum | cut -c 1-7)
    echo "$name" > "$folder/name"
    install_docker
    echo '{}' > "$folder/daemon.json"
    trap '' INT TERM HUP  # a second or two, in which `stop` would not find all that there is
    make_bridge "$name"
    # In process and mount namespaces of its own: when the first process there is killed, the kernel
    # ends all the others (containerd, proxies, containers) and undoes every mount. That first one is
    # a shell, because it has to take leave of processes that lost their parent. It hides a containerd
    # of the machine's, which dockerd would use, and whose containers would outlive it.
    # dockerd chooses its storage: overlay2, or vfs where the kernel has none, as inside a container
    # (DOCKER_DRIVER=vfs chooses that: slow, it copies whole layers). The limit on open files is for
    # programs that close every number up to it, which by Docker's default takes them minutes.
    setsid env --default-signal unshare --pid --fork --kill-child --mount-proc --propagation slave \
        sh -ec 'mkdir -p /run/containerd; mount -t tmpfs none /run/containerd; "$@" & wait "$!"' \
        init dockerd \
        --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/dockerd.pid" \
        --host "unix://$folder/docker.sock" --config-file "$folder/daemon.json" \
        --default-ulimit nofile=4096:4096 \
        --bridge "$name" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$name" \
        < /dev/null > "$folder/log" 2>&1 &
    echo $! > "$folder/pid"
    for _ in {1..60}; do
        if docker --host "unix://$folder/docker.sock" info > /dev/null 2>&1; then return; fi
        kill -0 "$(cat "$folder/pid")" 2> /dev/null || break
        sleep 1
    done
    give_up "dockerd did not start"
}

stop() {
    local folder name pid containers
    [ -e "$1" ] || return 0
    folder=$(realpath "$1")
    [ -e "$folder/name" ] || fail "$folder is not an engine's folder"
    name=$(cat "$folder/name")
    pid=$(cat "$folder/pid" 2> /dev/null) || pid=none
    # After a restart of the machine the number may be another program's. A zombie has no words.
    runs() { grep -qaF "$folder/docker.sock" "/proc/$pid/cmdline" 2> /dev/null; }
    if runs; then
        export DOCKER_HOST="unix://$folder/docker.sock"
        containers=$(timeout 20 docker ps --all --quiet 2> /dev/null) || true
        # shellcheck disable=SC2086  # several words
        [ -z "$containers" ] || timeout 60 docker rm -f -v $containers > /dev/null || true
        # unshare ends when its child and all of the child's namespace have ended.
        # shellcheck disable=SC2046  # nothing, if it has just ended
        kill -KILL $(cat "/proc/$pid/task/$pid/children") 2> /dev/null || true
        while runs; do sleep 0.1; done
    fi
    ip link delete "$name" 2> /dev/null || true
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2> /dev/null || true
    rm -rf --one-file-system "$folder"
}

case $#:${1:-} in
    2:start) start "$2" ;;
    2:stop) stop "$2" ;;
    *) usage ;;
esac
