# Shared by the scripts of this folder. POSIX sh: a fresh Debian has nothing else. Source it, do not run it.
# shellcheck shell=sh

# A service or a container may start without a home, which Go and cargo want, too.
: "${HOME:=$(getent passwd "$(id -u)" | cut -d : -f 6)}"
export HOME
# Where everything that is costly to build and not part of the checkout lives.
HOLDFAST_CACHE="${HOLDFAST_CACHE:-$HOME/.cache/holdfast}"
case "$HOLDFAST_CACHE" in
    /*) ;;
    *) HOLDFAST_CACHE="$PWD/$HOLDFAST_CACHE" ;; # scripts go to other directories
esac
mkdir -p "$HOLDFAST_CACHE"
repository="$(cd "$(dirname "$0")/.." && pwd)"
# The script itself, for those that call themselves from elsewhere.
script="$repository/scripts/${0##*/}"

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: without questions, in a language that we understand, and with proxies, which sudo would drop. dpkg does
# nothing without what is in sbin; sudo adds that by itself, a plain `su` does not.
as_root() {
    set -- env DEBIAN_FRONTEND=noninteractive LC_ALL=C ${http_proxy:+"http_proxy=$http_proxy"} \
        ${https_proxy:+"https_proxy=$https_proxy"} ${no_proxy:+"no_proxy=$no_proxy"} "$@"
    if [ "$(id -u)" = 0 ]; then PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" "$@"; else sudo "$@"; fi
}

# update_lists: has apt fetch its lists of packages. A mirror may fail for once; and Debian itself does this soon after its
# start: apt has no option to wait for that, we wait ten minutes.
update_lists() {
    attempts=0
    until problems="$(as_root apt-get update -qq 2>&1)"; do
        attempts=$((attempts + 1))
        case "$problems" in
            *"Could not get lock"*) attempts_allowed=120 ;;
            *) attempts_allowed=3 ;;
        esac
        if [ "$attempts" -ge "$attempts_allowed" ]; then
            printf '%s\n' "$problems" >&2
            return 1
        fi
        [ "$attempts" != 1 ] || say "apt-get update does not work at the moment; trying again"
        sleep 5
    done
}

# install PACKAGE...: from Debian's archive, when that is possible without asking anybody.
install() {
    has apt-get || fail "please install the counterpart of Debian's: $*"
    [ "$(id -u)" = 0 ] || has sudo ||
        fail "not root and no sudo; please run: apt-get install -y --no-install-recommends $*"
    say "installing $*"
    (
        # `make run` and `make test` may have been started together.
        ! has flock || flock 7
        # Somebody else's source may be broken for good while Debian's lists are there.
        update_lists || say "apt-get update failed, see above; trying with the lists that are there"
        # What an apt that was interrupted has left here, another one refuses to go past. Unless it is still at work: then
        # this does nothing, and the next line waits.
        [ -z "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] || as_root dpkg --configure -a >&2 || true
        as_root apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@" >&2
    ) 7>"$HOLDFAST_CACHE/install.lock"
}

# exclusively NAME: from here to the end of the script, alone among all scripts that took the same name.
exclusively() {
    exec 9>"$HOLDFAST_CACHE/$1.lock"
    if has flock && ! flock -n 9; then
        say "another process is at work on $1; waiting for it"
        flock 9
    fi
}

# discard PATH...: also copies from Go's module cache, where nothing may be written; a pattern without a match is nothing.
discard() {
    for discarded in "$@"; do
        [ -e "$discarded" ] || continue
        chmod -R u+w "$discarded"
        rm -rf "$discarded"
    done
}
