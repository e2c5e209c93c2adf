#!/bin/sh
# Installs what Turnpike needs to be built, tested and shown. Idempotent: with everything there it returns at once.
#
#   ./setup.sh                     build, test, demo and bench
#   ./setup.sh fuzz                also cargo-fuzz
#   ./setup.sh deny                also cargo-deny
#   ./setup.sh bench-nat           also OVS-DPDK, a peer of `make bench-nat`
#   ./setup.sh bench-peers         also OVS-DPDK, the peer of `make bench-peers`
#   ./setup.sh bench-bgp           also BIRD and GoBGP, peers of `make bench-bgp`
#   ./setup.sh bench-instructions  also valgrind
#
# Needs root, Debian 12, the network, and a Rust toolchain; says what to do where one of them is missing.
set -eu

rust_minimum=1.95
packages="
    libdpdk-dev dpdk-dev libclang1-14 libclang-common-14-dev pkg-config gcc libc6-dev make xz-utils
    frr bird2 gobgpd openbgpd exabgp pmacct bgpdump stayrtr
    iproute2 ethtool iputils-ping nftables curl util-linux
"

root=$(cd "$(dirname "$0")" && pwd)

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

check_system() {
    [ "$(id -u)" = 0 ] || fail "must run as root (packages, network namespaces, hugepages): use a root shell or sudo"
    system=unknown version=unknown
    [ ! -r /etc/os-release ] || {
        system=$(. /etc/os-release && echo "$ID")
        version=$(. /etc/os-release && echo "${VERSION_ID:-rolling}")
    }
    [ "$system $version" = "debian 12" ] || [ "${TURNPIKE_ANY_SYSTEM:-}" = 1 ] || fail \
        "this is $system $version; Turnpike is built against Debian 12's DPDK 22.11" \
        "use Debian 12, or set TURNPIKE_ANY_SYSTEM=1 and install the packages listed in setup.sh by hand"
}

check_rust() {
    install="install it: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
    [ -n "$found" ] && command -v cargo >/dev/null || fail "no Rust compiler on the PATH" "$install"
    [ "$(printf '%s\n' "$rust_minimum" "$found" | sort -V | head -n 1)" = "$rust_minimum" ] || fail \
        "rustc is $found; $rust_minimum or newer is needed" "run \`rustup update stable\`, or $install"
    for component in fmt clippy; do
        "cargo-$component" --version >/dev/null 2>&1 || rustup component add rustfmt clippy >&2 || fail \
            "cargo $component is missing" "run \`rustup component add rustfmt clippy\`"
    done
}

# Prints those of the packages named that are not installed.
missing_packages() {
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# Installs packages without letting their services start (frr's and OVS's daemons are run by the tests themselves).
install_packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    echo "setup: installing $missing"
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=yes
    fi
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of names
    # An update that fails in a third party's list does not matter; what counts is the installation.
    { apt-get -q update || true
      DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing; } \
        >"$log" 2>&1 </dev/null || {
        tail -n 30 "$log" >&2
        fail "cannot install $missing" "check the network and the apt sources; the whole log is in $log"
    }
    rm -f "$log"
    if [ "${ours:-}" = yes ]; then
        rm -f "$policy"
        trap - EXIT HUP INT TERM
    fi
}

check_kernel() {
    [ -c /dev/net/tun ] || {
        mkdir -p /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun
    } 2>/dev/null || fail "/dev/net/tun is missing: host interfaces are taps" "run \`modprobe tun\`"
}

check_system
check_rust
# shellcheck disable=SC2086 # a list of names
install_packages $packages
check_kernel
"$root/dataplane/dpdk-sys/fetch-driver-headers.sh"

case ${1:-} in
    '') ;;
    fuzz)
        cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
        install_packages g++
        ;;
    deny) cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny ;;
    bench-nat | bench-peers) install_packages openvswitch-switch-dpdk ;;
    bench-bgp) install_packages bird2 gobgpd ;;
    bench-instructions) install_packages valgrind ;;
    *) fail "unknown purpose \`$1\`: say nothing, fuzz, deny, bench-nat, bench-peers, bench-bgp or bench-instructions" ;;
esac
