# Live handshakes and records with another implementation of Noise, Debian's
# golang-github-flynn-noise-dev: each pattern, both roles, 1,000 handshakes with fresh keys.
. ./lib.sh
have go || { skip "flynn/noise" "go"; exit 0; }
[ -d /usr/share/gocode/src/github.com/flynn/noise ] ||
    { skip "flynn/noise" "golang-github-flynn-noise-dev"; exit 0; }
if ! GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS=-p=2 GOCACHE=$out/cache \
    go build -o "$out/interop_go" interop/interop.go >"$out/go.txt" 2>&1; then
    fail "compiling interop.go" "$out/go.txt"
    exit 0
fi
build "$out/interop_c" interop/interop.c || exit 0
for pattern in KKpsk0 XXpsk3 NNpsk0; do
    for role in i r; do
        check "$pattern, $role, 1000 handshakes" "$out/interop_go" "$out/interop_c" $pattern $role 1000
    done
done
