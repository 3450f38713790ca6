#!/usr/bin/env bash
# A Triton image for machines that reach no image registry, CPU only:
#
#   ci/base.sh [IMAGE]    make IMAGE (triton-cpu:24.10 unless given) in the Docker engine of $DOCKER_HOST
#
# Debian's Python and the tritonserver of a wheel on PyPI, laid out as in NVIDIA's image of the same
# version, though with Debian 12's Python 3.11 in place of 3.10. It is kept as a tar in
# $TRITON_STUB_CACHE (~/.cache/triton-stub); to make that takes root, python3 with pip, and a minute.
set -euo pipefail

image=${1:-triton-cpu:24.10}
# Triton 2.51, the version of NVIDIA's 24.10. The wheel has a Python backend for each Python.
server='nvidia-pytriton==0.7.0
    --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df'
suite=bookworm
keys=/usr/share/keyrings/debian-archive-keyring.gpg
python=3.11

fail() { echo "base.sh: $*" >&2; exit 1; }

docker version > /dev/null || fail "no Docker engine answers"

# Another script is another image, which the label and the name of the tar tell.
key=$(sha256sum "$0" | cut -c 1-16)
label='triton-stub.base'
if [ "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image" 2> /dev/null)" = "$key" ]
then
    echo "base.sh: $image is there"
    exit
fi

cache=${TRITON_STUB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/triton-stub}
tar=$cache/base-$key.tar
mkdir -p "$cache"
exec 9> "$cache/base.lock"
flock 9  # one at a time makes it

make_tar() {
    [ "$(uname -m)" = x86_64 ] || fail "the wheel is for x86_64, and this is $(uname -m)"
    [ "$(id -u)" -eq 0 ] || fail "only root can make the first $image here; use sudo"
    # Ubuntu has debootstrap without Debian's keys, with which it would check no signature.
    if ! { command -v debootstrap && command -v gpgv && [ -e "$keys" ]; } > /dev/null; then
        command -v apt-get > /dev/null || fail "no debootstrap here, and no apt-get to install it with"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
            --no-install-recommends debootstrap debian-archive-keyring gpgv; } >&2
    fi
    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/triton-base.XXXXXX")
    trap 'rm -rf --one-file-system "$scratch" "$tar.new"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    local root=$scratch/root triton=$scratch/root/opt/tritonserver wheel=$scratch/wheel
    echo "base.sh: Debian $suite with Python $python"
    # In a mount namespace of its own nothing that debootstrap mounts can stay.
    unshare --mount debootstrap --force-check-gpg --keyring="$keys" --variant=minbase \
        --include="python3,python3-pip,libpython$python,ca-certificates" \
        "$suite" "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" > "$scratch/log" 2>&1 ||
        { tail -n 20 "$scratch/log" >&2; fail "debootstrap failed; the end of its log is above"; }

    echo "base.sh: ${server%% *}"
    printf '%s\n' "${server//$'\n'/ }" > "$scratch/requirements.txt"
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: \
        --python-version "$python" --platform manylinux_2_35_x86_64 \
        --requirement "$scratch/requirements.txt" --dest "$scratch" >&2
    python3 -m zipfile -e "$scratch"/nvidia_pytriton-*.whl "$wheel"
    mkdir -p "$triton"
    mv "$wheel"/pytriton/tritonserver/{bin,backends,caches} "$triton"
    mv "$wheel/nvidia_pytriton.libs" "$triton/lib"
    mv "$wheel/pytriton/tritonserver/python_backend_stubs/$python"/* "$triton/backends/python"
    chmod +x "$triton/bin/tritonserver" "$triton/backends/python/triton_python_backend_stub"
    # The wheel looks for its libraries beside itself.
    echo /opt/tritonserver/lib > "$root/etc/ld.so.conf.d/tritonserver.conf"
    chroot "$root" ldconfig

    rm -rf "$root"/var/{cache/apt,lib/apt/lists}/* "$root"/usr/share/{doc,info,locale,man}/*
    # Under its name only when it is whole.
    tar --create --numeric-owner --directory "$root" --file "$tar.new" .
    rm -f "$cache"/base-*.tar
    mv "$tar.new" "$tar"
}

[ -e "$tar" ] || make_tar
docker import --change "LABEL $label=$key" \
    --change 'ENV PATH=/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    "$tar" "$image" > /dev/null
echo "base.sh: $image is made"
