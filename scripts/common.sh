# Shared by the scripts of this folder. POSIX sh: a fresh Debian has nothing else. Source it, do not run it.
# shellcheck shell=sh

# Where everything that is costly to build and not part of the checkout lives.
HOLDFAST_CACHE="${HOLDFAST_CACHE:-$HOME/.cache/holdfast}"
mkdir -p "$HOLDFAST_CACHE"
repository="$(cd "$(dirname "$0")/.." && pwd)"

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# install PACKAGE...: from Debian's archive, when that is possible without asking anybody.
install() {
    has apt-get || fail "please install the counterpart of Debian's: $*"
    if [ "$(id -u)" = 0 ]; then as_root=; elif has sudo; then as_root=sudo
    else fail "not root and no sudo; please run: apt-get install -y --no-install-recommends $*"; fi
    say "installing $*"
    $as_root apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >&2
}

# exclusively NAME: from here to the end of the script, alone among all scripts that took the same name.
exclusively() {
    exec 9>"$HOLDFAST_CACHE/$1.lock"
    if has flock && ! flock -n 9; then
        say "another process is at work on $1; waiting for it"
        flock 9
    fi
}
