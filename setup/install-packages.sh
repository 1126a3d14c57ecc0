#!/bin/sh
# Installs Debian packages without starting their services. Run as root: install-packages.sh PACKAGE...
set -eu

policy=/usr/sbin/policy-rc.d
mark='# written by Flotilla, removed after the installation'

# invoke-rc.d asks this file whether a service may start; 101 means no. One that is already there is not ours to change,
# unless it was left behind by an installation of ours that was killed.
if [ ! -e "$policy" ] || grep -qF "$mark" "$policy"; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update
apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@"
