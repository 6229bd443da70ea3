# The tools: tidy finds what it should, in copies of the tree with one thing broken each; matrix and
# size fail when they should.
. ./lib.sh
[ -z "$SAN" ] || { skip "tools" "no sanitizer"; exit 0; }
copy=$out/copy

check "tidy: this tree" "$root/tools/tidy"

# ---- tidy ----

# A copy of what tidy reads. README and examples are small ones of its own, so that only what a test
# breaks is new.
rm -rf "$copy"
mkdir -p "$copy/tools" "$copy/examples" "$copy/tests"
cp "$root/tools/tidy" "$copy/tools/"
cp "$root/dlshard.h" "$copy/good.h"
cp "$copy/good.h" "$copy/dlshard.h"
printf '/* cc -O2 e.c -o e\n   An example. */\n' >"$copy/examples/e.c"
grep -o 'dls_[a-z0-9_]*' "$root/dlshard.h" | sort -u >"$copy/tests/t.c" # as if all were tested
echo 'See `examples/e.c` and `dls_net_create`, `dls_x_size`.' >"$copy/README.md"
cp "$copy/examples/e.c" "$copy/good.c"
cp "$copy/tests/t.c" "$copy/good_t.c"
cp "$copy/README.md" "$copy/good.md"
tidy() { "$copy/tools/tidy" --no-format "$copy"; }

check "tidy: this header" "$root/tools/tidy" --no-format "$copy"
if have clang-format; then
    check "tidy: this header is formatted" "$root/tools/tidy" "$copy"
    sed -i.bak 's/^    if (a != 0 \&\& b > SIZE_MAX/    if(a != 0 \&\& b > SIZE_MAX/' "$copy/dlshard.h"
    "$copy/tools/tidy" "$copy" >"$out/said.txt"
    check "tidy finds: format" grep -q 'dlshard.h:.*: not as clang-format' "$out/said.txt"
else
    skip "format" clang-format
fi

# finds NAME EXPECTED SED-SCRIPT [FILE [BLAMED]]: with the script applied to FILE (the header), tidy
# ends with status 1 and a line that matches EXPECTED and names the file BLAMED (FILE).
tidy >"$out/before.txt"
finds() {
    file=${4:-dlshard.h}
    cp "$copy/good.h" "$copy/dlshard.h"
    cp "$copy/good.c" "$copy/examples/e.c"
    cp "$copy/good_t.c" "$copy/tests/t.c"
    cp "$copy/good.md" "$copy/README.md"
    cp "$copy/$file" "$out/unbroken"
    sed "$3" "$out/unbroken" >"$copy/$file"
    if cmp -s "$out/unbroken" "$copy/$file"; then
        fail "tidy finds: $1: the test's edit changed nothing"
        return
    fi
    if tidy >"$out/said.txt"; then
        fail "tidy finds: $1" "$out/said.txt"
    elif grep -v -x -F -f "$out/before.txt" "$out/said.txt" |
        grep -q "^${5:-$file}:[0-9]*: $2"; then
        ok "tidy finds: $1"
    else
        fail "tidy finds: $1: expected $2" "$out/said.txt" 5
    fi
}
# layers
finds "a private name of a section above" 'dlsi_exec_run of >>tensor.impl is defined in >>net.impl' \
    "s/^DLS_API size_t dls_dtype_bytes.*{/&\n    (void)dlsi_exec_run;/"
finds "a public name not in deps" '>>tensor.impl uses dls_now_us of >>port.api' \
    "s/^DLS_API size_t dls_dtype_bytes.*{/&\n    (void)dls_now_us();/"
finds "a private name not in deps" '>>wire.impl uses dlsi_exec_run of >>net.impl' \
    "s/^DLS_API void dls_frame_write.*{/&\n    (void)dlsi_exec_run;/"
finds "a type not in deps, in the API half" '>>wire.api uses dls_net of >>net.api' \
    "s/^DLS_API void dls_frame_write(const dls_frame/DLS_API void dls_frame_write(const dls_net/"
finds "a constant not in deps" '>>base.impl uses DLS_ACT_RELU of >>kern.api' \
    "s/^DLSI_FN size_t dlsi_mul(.*/&\n    (void)DLS_ACT_RELU;/"
finds "a dep taken away" '>>train.impl uses dlsi_.* of >>model.impl' \
    '/>>train.impl/ s/ net model / net /'
finds "a name in a macro's body" '>>base.impl uses dls_peer_rx of >>peer.api' \
    's/^DLSI_FN size_t dlsi_mul(/#define DLSI_BAD dls_peer_rx\n&/'
finds "a dep that stands below" 'deps: node.impl is not above tensor.impl' \
    '/>>tensor.impl/ s/deps: /deps: node /'
finds "a dep that is no section" 'deps: names no section: bsae' '/>>wire.impl/ s/deps: .*/deps: bsae/'
finds "a function defined in another section" 'dls_isa_name of >>kern.api is defined in >>par.impl' \
    '/^DLS_API const char \*dls_isa_name(dls_isa isa) {/,/^}/ {
        H
        d
    }
    /^DLS_API void dls_parallel_for.*/ {
        x
        s/^\n//
        G
        x
        s/.*//
        x
    }'

# sections
finds "a missing section" '>>tensor.api has no >>tensor.impl' '/>>tensor\.impl/ s/>>tensor.impl/  tensor/'
finds "an implementation without API" '>>extra.impl has no >>extra.api' \
    's/^   >>wire\.impl .*/   >>extra.impl  deps: config\n*\/\n\n\/*\n&/'
finds "sections out of order" 'order of sections' 's/>>port\.impl/>>XXXX.impl/; s/>>tensor\.impl/>>port.impl/; s/>>XXXX/>>tensor/'
finds "a section twice" '>>wire.impl stands twice' 's/>>peer\.impl/>>wire.impl/'
finds "contents that lack a section" 'contents list' '/^ *CONTENTS/,/^$/ s/peer   engine/beer   engine/'
finds "a marker without deps" 'wire.impl has no deps' '/>>wire\.impl/ s/deps:.*/\n\n\n*\//'

# form
finds "a long line" 'longer than 100 columns' "s/^#define DLS_VERSION_MAJOR 0/&  \/*$(printf '%0100d' 0)*\//"
finds "a tab" 'a tab' 's/^#define DLS_VERSION_MAJOR 0/#define DLS_VERSION_MAJOR\t0/'
finds "a trailing blank" 'trailing blank' 's/^#define DLS_VERSION_MAJOR 0/& /'
finds "a byte that is not ASCII" 'a byte that is not ASCII' 's/^#define DLS_VERSION_MAJOR 0/& \/* \xc3\xa9 *\//'
lines=$(printf '    (void)a;\\n%.0s' 1 2 3 4 5 6 7 8 9 10)
finds "a long function" 'dlsi_mul has 7[0-9] lines, more than 70' \
    "s/^DLSI_FN size_t dlsi_mul(.*/&\n$lines$lines$lines$lines$lines$lines${lines%??????????}    (void)a;/"
finds "#if in a function" '#if inside dlsi_mul' 's/^DLSI_FN size_t dlsi_mul(.*/&\n#if DLS_ENABLE_SIMD\n    (void)a;\n#endif/'

# calls
for call in abort exit printf snprintf strcpy malloc free fopen time rand sqrtf exp system; do
    finds "a call of $call" "calls $call()" "s/^DLSI_FN size_t dlsi_mul(.*/&\n    $call(a);/"
done
finds "a call of poll outside its section" 'calls poll(), allowed in >>link' \
    's/^DLSI_FN size_t dlsi_mul(.*/&\n    poll(a);/'
finds "threads outside their section" 'calls pthread_self(), allowed in' \
    's/^DLSI_FN size_t dlsi_mul(.*/&\n    pthread_self(a);/'
finds "a global variable" 'a global variable' 's/^DLSI_FN size_t dlsi_mul(/static int32_t dlsi_calls;\n&/'
finds "a global variable with a value" 'a global variable' 's/^DLSI_FN size_t dlsi_mul(/static int32_t dlsi_calls = 0;\n&/'
finds "a static variable" 'a static variable' 's/^DLSI_FN size_t dlsi_mul(.*/&\n    static int32_t calls = 0;/'

# use
finds "a public function without comment" 'dls_peer_size has no comment directly above' \
    '/Bytes an engine needs/ d'
finds "a public function nobody calls" 'dls_peer_size is called by no test' \
    '/dls_peer_size/ d' tests/t.c dlshard.h
finds "a private function nobody calls" 'dlsi_idle is never used' \
    's/^DLSI_FN size_t dlsi_mul(/DLSI_FN int32_t dlsi_idle(int32_t a) { return a; }\n&/'
finds "a kernel nobody calls" 'dlsi_idle\* is never used' \
    's/^DLSI_KFN dls_real DLSI_V(sum)(/DLSI_KFN dls_real DLSI_V(idle)(dls_real a) { return a; }\n&/'
finds "a declaration without definition" 'dls_ghost is declared but not defined' \
    's/^DLS_API uint64_t dls_now_us(void);/&\n\/* . *\/\nDLS_API int32_t dls_ghost(void);/'
finds "a public name only in the implementation" 'dls_ghost is public by its name' \
    's/^DLSI_FN size_t dlsi_mul(/DLS_API int32_t dls_ghost(void) { return 0; }\n&/'

# around
finds "a file the README only dreams of" 'examples\/f.c does not exist' 's/e\.c/f.c/' README.md
finds "a name the README only dreams of" 'dls_net_creat is not in dlshard.h' 's/create/creat/' README.md
finds "an example without build line" 'the first line is not its build line' '1d' examples/e.c
finds "an example with another's build line" 'the first line is not' '1s/e\.c/f.c/' examples/e.c
finds "a long example" 'more than 150 lines' "1s/\$/$(printf '\\n%.0s' $(seq 200))/" examples/e.c
finds "a long line in an example" 'longer than 100' "2s/\$/$(printf '%0100d' 0)/" examples/e.c

# ---- matrix ----

mkdir -p "$out/matrix/tools"
cp "$root/tools/matrix" "$out/matrix/tools/"
sed 's/^DLSI_FN size_t dlsi_mul(.*/&\n    int32_t narrow = a;/' "$root/dlshard.h" >"$out/matrix/dlshard.h"
"$out/matrix/tools/matrix" --quick "c99 default" >"$out/said.txt" 2>&1
if [ $? -eq 1 ] && grep -q '^FAIL matrix: cc c99 default impl' "$out/said.txt" &&
    grep -q '^ok matrix: cc c99 default decl' "$out/said.txt"; then
    ok "matrix finds a warning, where it is"
else
    fail "matrix finds a warning" "$out/said.txt"
fi

# ---- size ----

if have arm-none-eabi-gcc; then
    "$root/tools/size" --full Cortex-M4 >"$out/said.txt" 2>&1
    check "size: sections add up to the total" awk -F'|' '
        /^\| [a-z(]/ && !/total/ { for (k = 3; k <= 6; k++) sum[k] += $k }
        /total/ { for (k = 3; k <= 6; k++) if ($k != sum[k]) bad = 1; seen = $3 > 1000 }
        /^\| net/ { net = $3 > 1000 } /^\| kern/ { kern = $3 > 1000 }
        END { exit bad || !seen || !net || !kern }' "$out/said.txt"
    mkdir -p "$out/size/tools" "$out/size/tests" "$out/size/examples"
    cp "$root/dlshard.h" "$out/size/"
    cp -r mcu "$out/size/tests/"
    cp "$root"/tools/*.c "$out/size/tools/"
    cp -r "$root/examples/firmware" "$out/size/examples/"
    sed 's/code_most=[0-9]*/code_most=1000/' "$root/tools/size" >"$out/size/tools/size"
    chmod +x "$out/size/tools/size"
    if "$out/size/tools/size" --check >"$out/said.txt" 2>&1 || ! grep -q MISSED "$out/said.txt"; then
        fail "size --check fails over a limit" "$out/said.txt"
    else
        ok "size --check fails over a limit"
    fi
    sed 's/code_most=[0-9]*/code_most=99999/; s/ram_most=[0-9]*/ram_most=1024/' "$root/tools/size" \
        >"$out/size/tools/size"
    check "size --check passes under the limits" "$out/size/tools/size" --check
    echo 'static char big[2000]; char *grow(void); char *grow(void) { return big; }' \
        >>"$out/size/tests/mcu/firmware.c"
    sed -i.bak 's/^.*int main(void) {/char *grow(void);\n&\n    *grow() = 1;/' "$out/size/tests/mcu/firmware.c"
    if "$out/size/tools/size" --check >"$out/said.txt" 2>&1 || ! grep -q MISSED "$out/said.txt"; then
        fail "size --check fails over the limit of RAM" "$out/said.txt"
    else
        ok "size --check fails over the limit of RAM"
    fi
else
    skip "size" arm-none-eabi-gcc
fi

# ---- dlshard report: tests/example uses the rest of the command-line program ----

san="-fsanitize=address,undefined -fno-sanitize-recover=all"
echo 'int main(void) { return 0; }' >"$out/san.c"
# shellcheck disable=SC2086
"$CC" $san "$out/san.c" -o "$out/san" 2>/dev/null && "$out/san" || san=
# shellcheck disable=SC2086
check "dlshard builds without warnings" "$CC" -std=gnu99 -O0 -Wall -Wextra -Wshadow -Werror $san \
    "$root/tools/dlshard.c" -o "$out/dlshard" -lpthread
cp tool/run.csv "$out/run.csv"
dlshard() { "$out/dlshard" "$@"; }
page=$out/run.html
rm -f "$page"
check "report: beside the record" dlshard report "$out/run.csv"
check "report: whole" grep -q '</main></body></html>' "$page"
check "report: loads nothing from elsewhere" sh -c "! sed 's#http://www.w3.org/2000/svg##' '$page' |
    grep -q -i -E 'http|src=|href=|url\(|@import|<script'"
check "report: a line of loss, one of accuracy" test "$(grep -c '<polyline' "$page")" = 2
check "report: all charts" test "$(grep -c '<svg' "$page")" = 5
check "report: axes have units" sh -c "for w in step 'samples / s' '% of samples' seconds 'training loss'; do
    grep -q \">\$w</text>\" '$page' || exit 1; done"
awk -F, '$1 == "peer" { sum[$5] += $9; all += $9; sent[$5] += $13; saved[$5] += $14 }
    END { for (n in sum) { name = n; gsub(/"/, "", name)
        printf "%s<td>%.0f<td>%.1f %%<td>\n", name, sum[n], 100 * sum[n] / all
        printf "(%.0f %%)</tr>\n", 100 * saved[n] / (saved[n] + sent[n]) } }' "$out/run.csv" >"$out/want.txt"
check "report: sums by peer are those of the record" sh -c "[ \$(wc -l <'$out/want.txt') = 10 ] &&
    while read -r line; do grep -q -F \"\$line\" '$page' || { echo \"\$line\"; exit 1; }; done <'$out/want.txt'"
check "report: two went, two came" test "$(grep -c "l6 6m0 -6l-6 6" "$page") $(grep -c "m0 3h6m-3 -3v6" "$page")" = "2 2"

sed 's/"watch"/"a""<b>\&amp,'"'"'x"/' "$out/run.csv" >"$out/odd.csv"
check "report: odd names" dlshard report "$out/odd.csv" -o "$out/odd.html"
check "report: odd names are escaped" sh -c "grep -q 'a&#34;&#60;b&#62;&#38;amp,&#39;x' '$out/odd.html' && ! grep -q '<b>&' '$out/odd.html'"
awk -F, 'NR == 1 || $1 == "step"' "$out/run.csv" >"$out/plain.csv"
check "report: steps alone" dlshard report "$out/plain.csv" -o "$out/plain.html"
sed 's/$/\r/' "$out/run.csv" >"$out/crlf.csv"
check "report: lines that end in CR LF" sh -c "'$out/dlshard' report '$out/crlf.csv' -o '$out/crlf.html' &&
    sed 's/crlf.csv/run.csv/' '$out/crlf.html' | cmp - '$page'"
awk -F, -v OFS=, 'NR == 1 { print; next } $1 == "step" { for (k = 0; k < 50; k++) { n++; print "step", n, n * 9,
    "", "", 1 / n, 0.5, 100, "", "", "", "", "", ""
    for (p = 0; p < 20; p++) print "peer", n, n * 9, p, "p" p, "", "", "", 10, 5, 3, 1, 1000, 0 } }' \
    "$out/run.csv" >"$out/long.csv"
check "report: 4,000 points of 20 peers" dlshard report "$out/long.csv" -o "$out/long.html"
check "report: stays under 1 MB, in hours" sh -c "[ \$(wc -c <'$out/long.html') -lt 1000000 ] && grep -q '>hours</text>' '$out/long.html'"

refuses() { # NAME TEXT FILE [ARG...]: status 1 or 2, with that text
    name=$1 text=$2
    shift 2
    dlshard report "$@" >"$out/said.txt" 2>&1
    s=$?
    if [ $s -ge 1 ] && [ $s -le 2 ] && grep -q "$text" "$out/said.txt"; then ok "report refuses $name"
    else fail "report refuses $name (status $s)" "$out/said.txt"; fi
}
head -1 "$out/run.csv" >"$out/none.csv"
sed '9s/^peer,[0-9]*/peer,x/' "$out/run.csv" >"$out/letters.csv"
sed '$s/,[0-9.]*,/,1.5,/2; $s/,[0-9]*\.[0-9]*,/,1.5,/' "$out/run.csv" >"$out/back.csv"
sed '1s/wire/wier/' "$out/run.csv" >"$out/names.csv"
refuses "what is not there" "none/such.csv" none/such.csv
refuses "other text" "14 columns" ../README.md
refuses "other columns" "not those of a run" "$out/names.csv"
refuses "no steps" "no step rows" "$out/none.csv"
refuses "letters for a number" "row 9: no number" "$out/letters.csv"
refuses "time that goes back" "time goes back" "$out/back.csv"
refuses "a page it cannot write" "cannot write" "$out/run.csv" -o "$out/no/such/dir.html"
refuses "no record" "RUN.csv"
[ ! -w /dev/full ] || refuses "a full disk" "failed" "$out/run.csv" -o /dev/full

# Records cut short or with bytes changed give a page or a message, never a crash.
i=0 crashed=
while [ $i -lt 150 ]; do
    i=$((i + 1))
    if [ $((i % 2)) = 0 ]; then head -c $((i * i)) "$out/run.csv" >"$out/bad.csv"
    else
        awk -v seed=$i 'BEGIN { srand(seed) } { if (rand() < 0.01) { at = int(rand() * length($0)) + 1
            $0 = substr($0, 1, at) substr("\",x-e9\r\n1", int(rand() * 9) + 1, 1) substr($0, at + 2) } print }' \
            "$out/run.csv" >"$out/bad.csv"
    fi
    dlshard report "$out/bad.csv" -o "$out/bad.html" >"$out/said.txt" 2>&1
    [ $? -le 1 ] || { crashed="$i"; break; }
done
if [ -z "$crashed" ]; then ok "report: 150 broken records"; else fail "report: broken record $crashed" "$out/said.txt"; fi

check "train --csv" dlshard train --data ../examples/data/mnist-train --steps 30 --threads 1 --batch 16 \
    --csv "$out/train.csv" --curve "$out/train.svg"
check "train --csv: a report of it" dlshard report "$out/train.csv"
check "train --csv: its last step" sh -c "grep '^step,' '$out/train.csv' | tail -n 1 | grep -q '^step,30,'"

# ---- dlshard train together: three devices by key, one killed and started again ----

cd "$out" || exit 1
rm -rf together
mkdir together
cd together || exit 1
data=$root/examples/data/mnist-train
train="train --data $data --net mlp --batch 16 --shards 8 --steps 120 --threads 1"
by_key="--expect 2 --lan-port $(($$ % 20000 + 20000))"
trap 'kill -9 $running 2>/dev/null' EXIT
running=
dlshard keygen >said.txt
for d in ada ben cleo; do dlshard enrol $d --role train,coord >>said.txt; done
member() { # NAME RECORD: in the background; not by the function, $! is to be the program
    # shellcheck disable=SC2086
    "$out/dlshard" $train $by_key --key "$1.key" --csv "$2.csv" --trace "$2.json" >"$2.txt" 2>&1 &
    running="$running $!"
}
within() { # SECONDS COMMAND...: until it succeeds
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -le $end ] || return 1
        sleep 0.1
    done
}
far() { grep -q -s "^step,$1" "$2.csv"; }
for d in ada cleo ben; do member $d $d; done
within 60 far '[2-9][0-9],' ben || fail "together: three at work" ben.txt
kill -9 "${running##* }"
within 30 grep -q '"lost"' ada.csv || fail "together: ada sees that ben is gone" ada.txt
member ben ben2
# shellcheck disable=SC2086
wait $running 2>/dev/null
state() { sed -n 's/^trained.*state //p' "$1.txt"; }
# shellcheck disable=SC2086
dlshard $train >alone.txt
for d in ada cleo ben2; do check "together: $d has the state of one device" test "$(state $d)" = "$(state alone)"; done
check "together: who there is" grep -q '^together: ada ben cleo; this is place 0' ada.txt
check "together: says who was lost, who joined" sh -c "grep -q '^ben was lost after step' ada.txt && grep -q '^ben joined with step' ada.txt"
check "together: nothing was taken back" grep -q ' 0 taken back$' ada.txt
for d in ada cleo; do
    check "record of $d: all samples, each of one peer" test "$(awk -F, '$1 == "peer" { n += $9 } END { print n }' $d.csv)" = 1920
done
check "record: rows of three peers, with compute and wire time and bytes" awk -F, '
    $1 == "peer" { c[$4] += $10; w[$4] += $11; s[$4] += $13 }
    END { for (p = 0; p < 3; p++) if (c[p] <= 0 || w[p] <= 0 || s[p] <= 0) exit 1 }' ada.csv
check "record: lost, joined, views, redone" awk -F, '
    $2 > 0 && $5 == "\"ben\"" && $1 == "\"lost\"" { lost++ }
    lost && $5 == "\"ben\"" && $1 == "\"joined\"" { joined++ }
    $1 == "\"view\"" { views++ }
    END { exit !(lost == 1 && joined == 1 && views >= 3) }' ada.csv
check "record of the device that came back: it took the state" grep -q '^"state",.*"ben"' ben2.csv
check "report of it" dlshard report ada.csv
check "report: one went, one came" test "$(grep -c "l6 6m0 -6l-6 6" ada.html) $(grep -c "m0 3h6m-3 -3v6" ada.html)" = "1 1"
check "report: of a killed device's record" dlshard report ben.csv
build json "$root/tests/tool/json.c" -I"$root/tests" && for d in ada ben2; do
    check "timeline of $d: JSON" ./json $d.json
    for phase in compute reduce agree; do
        check "timeline of $d: $phase" test "$(grep -c "\"ph\":\"X\",\"name\":\"$phase\"" $d.json)" -ge 50
    done
done
check "timeline: the device that came back took the state" grep -q '"name":"state"' ben2.json

# Ctrl-C on one: all stop after the same step, each has its checkpoint, from which one device goes on.
running=
constant="--lr 0.05 --momentum 0.9" # else the rate depends on how many steps there are to be
train="train --data $data --net mlp --batch 16 --shards 8 --steps 100000 --threads 1 $constant"
for d in ada cleo; do rm -f $d.csv; member $d $d; done
within 60 far '[2-9][0-9],' cleo || fail "together: two at work" cleo.txt
kill -INT "${running##* }"
for pid in $running; do
    wait "$pid"
    check "Ctrl-C: a device ends with status 3" test $? = 3
done
running=
check "Ctrl-C: the same state on both" test -n "$(state ada)" -a "$(state ada)" = "$(state cleo)"
check "Ctrl-C: each has a checkpoint" cmp ada.ckpt cleo.ckpt
steps=$(($(sed -n 's/^trained \([0-9]*\) steps.*/\1/p' ada.txt) + 20))
# shellcheck disable=SC2086
one() { dlshard train --data "$data" --net mlp --batch 16 --shards 8 --steps $steps --threads 1 $constant "$@"; }
one --resume cleo.ckpt >resumed.txt
one >alone.txt
check "Ctrl-C: gone on with from a checkpoint, as if never stopped" test "$(state resumed)" = "$(state alone)"

# A terminal sees the table.
if have script; then
    train="train --data $data --net mlp --batch 16 --shards 8 --steps 60 --threads 1"
    member ben ben
    # shellcheck disable=SC2086
    script -q -e -c "stty cols 90 rows 24; '$out/dlshard' $train $by_key --key ada.key" table.txt >/dev/null </dev/null
    wait
    running=
    check "table: its head" grep -q 'device  *state  *share  *samples/s  *compute ms  *wire ms  *wait ms' table.txt
    check "table: both train" sh -c "grep -q '^ada  *trains  *[0-9]* %' table.txt && grep -q '^ben  *trains  *[0-9]* %' table.txt"
    check "table: totals" grep -q 'samples/s .* sent, .* saved .* s left' table.txt
    check "table: is drawn over in place" grep -q "$(printf '\033')\[6A" table.txt
else
    skip "table" script
fi
