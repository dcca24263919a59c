# Finds a Go that is new enough, or gets one. Source it after common.sh; then call find_go and use "$go".
# shellcheck shell=sh

go_wanted=1.26
go_exact=1.26.8

# go_minor GO: the number after "1." of its version, without letting it fetch another one.
go_minor() {
    GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -n 's|^go1\.\([0-9]*\).*|\1|p'
}

find_go() {
    go=go
    has go || install golang-go ca-certificates
    minor="$(go_minor go)"
    [ -n "$minor" ] || fail "'go env GOVERSION' says nothing"
    [ "$minor" -lt "${go_wanted#1.}" ] || return 0
    # From 1.21 on, Go fetches another version by itself; told which, also where it is set up not to (Debian 13).
    if [ "$minor" -ge 21 ]; then
        export GOTOOLCHAIN="go$go_exact"
        return 0
    fi
    # An older one (Debian 12 has 1.19) can still fetch the newer one: toolchains are modules, with checksums in Go's
    # public checksum database.
    case "$(uname -m)" in
        x86_64) architecture=amd64 ;;
        aarch64) architecture=arm64 ;;
        *) fail "please install Go $go_wanted or newer" ;;
    esac
    toolchain="$HOLDFAST_CACHE/go-$go_exact"
    [ -x "$toolchain/bin/go" ] || fetch_go
    go="$toolchain/bin/go"
    unset GOROOT
    export GOTOOLCHAIN=local
}

# fetch_go: to $toolchain, with a lock of its own: who calls may hold that of `exclusively`, and several may.
fetch_go() {
    (
        ! has flock || flock 7
        [ ! -x "$toolchain/bin/go" ] || exit 0 # somebody fetched it while we waited
        say "fetching Go $go_exact with Go 1.$minor"
        module="golang.org/toolchain@v0.0.1-go$go_exact.linux-$architecture"
        fetched="$(cd "$HOLDFAST_CACHE" && go mod download -json "$module" | sed -n 's|^[[:space:]]*"Dir": "\(.*\)",*$|\1|p')"
        [ -d "$fetched" ] || fail "could not fetch $module; please install Go $go_wanted or newer"
        discard "$toolchain.new"
        cp -r "$fetched" "$toolchain.new"
        # Modules carry no permission bits.
        chmod -R u+w "$toolchain.new"
        chmod +x "$toolchain.new"/bin/* "$toolchain.new"/pkg/tool/linux_$architecture/* 2>/dev/null || true
        mv "$toolchain.new" "$toolchain"
    ) 7>"$HOLDFAST_CACHE/go.lock"
}
