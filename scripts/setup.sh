#!/usr/bin/env bash
# Makes this machine able to build Lockstep: a C++ compiler and libclang for RocksDB, and Rust.
#
# On Debian and its relatives it installs what is missing; elsewhere, and for Rust everywhere, it
# says what to install. It says nothing when nothing is missing, and changes nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:$HOME/.cargo/bin

# True if one of the patterns names a file.
exists() {
    local pattern
    for pattern in "$@"; do
        if compgen -G "$pattern" >/dev/null; then
            return 0
        fi
    done
    return 1
}

# bindgen loads libclang when RocksDB's bindings are generated, and libclang reads its own headers.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] && return 0
    exists '/usr/lib/llvm-*/lib/libclang*.so*' '/usr/lib*/libclang*.so*' '/usr/lib/*/libclang*.so*' \
        '/usr/local/lib/libclang*.so*' '/opt/homebrew/opt/llvm/lib/libclang.dylib' \
        '/Library/Developer/CommandLineTools/usr/lib/libclang.dylib' &&
        exists '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' '/usr/lib*/clang/*/include/stddef.h' \
            '/usr/local/lib/clang/*/include/stddef.h' '/opt/homebrew/opt/llvm/lib/clang/*/include/stddef.h' \
            '/Library/Developer/CommandLineTools/usr/lib/clang/*/include/stddef.h'
}

# The Debian packages of what is missing, one a line.
missing() {
    command -v "${CXX:-c++}" >/dev/null || echo g++
    has_libclang || echo libclang-dev
    command -v make >/dev/null || echo make
    command -v curl >/dev/null || echo curl
    exists /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem /etc/pki/tls/certs/ca-bundle.crt ||
        echo ca-certificates
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: root is needed for: $*" >&2
        return 1
    fi
}

read -ra packages <<<"$(missing | tr '\n' ' ')"
if ((${#packages[@]} > 0)); then
    if ! command -v apt-get >/dev/null; then
        echo "setup: missing: ${packages[*]} (names of Debian packages); install them, then try again" >&2
        exit 1
    fi
    echo "setup: installing ${packages[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${packages[@]}" >/dev/null
fi

oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing: install Rust $oldest or later, see https://rustup.rs" >&2
    exit 1
fi
found=$(cargo --version | cut -d ' ' -f 2)
if [[ $(printf '%s\n' "$oldest" "$found" | sort -V | head -n 1) != "$oldest" ]]; then
    echo "setup: cargo $found is too old: $oldest or later is needed; try: rustup update" >&2
    exit 1
fi
