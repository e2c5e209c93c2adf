#!/bin/sh
# Fetches DPDK's driver headers (ethdev_driver.h and its kin) into .setup/dpdk-driver-headers.
#
# Debian's libdpdk-dev leaves them out; they come with the source package of the same version. Needs apt with the
# sources that libdpdk-dev was installed from, tar and xz; changes nothing in the system's own apt configuration.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
headers="$root/.setup/dpdk-driver-headers"

version=$(dpkg-query -W -f '${source:Version}' libdpdk-dev 2>/dev/null) || {
    echo "fetch-driver-headers: libdpdk-dev is not installed: run \`apt-get install libdpdk-dev\` first" >&2
    exit 1
}
[ "$(cat "$headers/VERSION" 2>/dev/null)" = "$version" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
chmod 755 "$work"

# A private copy of the apt sources, asking for source packages; the system's own list stays as it is.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] || continue
    case $file in
        *.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/${file##*/}" ;;
        *.list) sed -n 's/^deb /deb-src /p' "$file" >"$work/sources/${file##*/}" ;;
    esac
done
apt() {
    apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}
log="$work/log"
# A third party's list without source packages fails the update; what counts is the download below.
apt update >"$log" 2>&1 || true
(cd "$work" && apt source --download-only "dpdk=$version" >>"$log" 2>&1) || {
    cat "$log" >&2
    echo "fetch-driver-headers: cannot download the source of dpdk $version: check the network and that the" >&2
    echo "apt sources of this system also serve source packages (deb-src)" >&2
    exit 1
}

tar -xf "$work"/dpdk_*.orig.tar.* -C "$work/unpacked" --strip-components=1 --wildcards \
    '*/lib/ethdev/ethdev_*.h' '*/lib/ethdev/sff_*.h' '*/lib/ethdev/rte_flow_driver.h' '*/lib/ethdev/rte_mtr_driver.h' \
    '*/lib/ethdev/rte_tm_driver.h' '*/lib/eal/include/dev_driver.h' '*/lib/eal/include/bus_driver.h' \
    '*/drivers/bus/vdev/bus_vdev_driver.h' '*/license/*'

mkdir -p "$headers"
find "$work/unpacked" -name '*.h' -exec cp {} "$headers/" \;
cp -r "$work/unpacked/license" "$headers/"
echo "$version" >"$headers/VERSION"
echo "DPDK driver headers $version are in $headers"
