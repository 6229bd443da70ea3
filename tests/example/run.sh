# Every example and every code block of the README is built by its own build line and run; the
# command-line program is used as a user uses it, and misused.
. ./lib.sh
ex=$out/examples
rm -rf "$ex"
mkdir -p "$ex/examples" "$ex/tools"
cp "$root/dlshard.h" "$ex/"
cp -r "$root/examples/"*.c "$root/examples/Makefile" "$root/examples/data" "$ex/examples/"
cp "$root/tools/dlshard.c" "$root/tools/report.c" "$root/tools/live.c" "$ex/tools/"
cd "$ex/examples" || exit 1

line() { sed -n '1s#^/\* ##p' "$1" | sed 's/ *\*\/$//'; } # the build line of an example
for f in *.c; do
    cmd=$(line "$f" | sed "s/^cc /$CC /")
    case $cmd in mpicc*) continue ;; esac # below
    case $cmd in "$CC "*) check "$f: its first line builds it" sh -c "$cmd" ;; *) fail "$f: first line is no build line" ;; esac
    [ "$(wc -l <"$f")" -le 150 ] || fail "$f has over 150 lines"
done
check "01_xor" ./01_xor
check "02_text" ./02_text data/text.txt 120
check "03_custom_op" ./03_custom_op
check "04_static_memory" ./04_static_memory
check "05_user_link" ./05_user_link
check "ps" ./ps

# The main job: a quick run must end with equal outputs, in under 60 s.
start=$(date +%s)
check "collective" sh -c './collective >collective.txt 2>&1 || { cat collective.txt; exit 1; }'
check "collective: outputs equal those of one device" grep -q 'outputs equal, bit for bit' collective.txt
check "collective: under 60 s" test $(($(date +%s) - start)) -lt 60
hash3=$(sed -n 's/.*every peer has state //p' collective.txt)

# train: the same state as the collective's, for any number of threads; resume equals going on.
t() { ./train --data data/mnist-train --state-hash "$@" | sed -n 's/^state-hash //p'; }
same() { # NAME A B
    if [ -n "$2" ] && [ "$2" = "$3" ]; then ok "$1"; else fail "$1: '$2' is not '$3'"; fi
}
same "one device in exact mode = three peers" "$(t --epochs 3 --shards 8)" "$hash3"
one=$(t --steps 60 --seed 3 --threads 1)
same "train: 1 and 2 threads" "$one" "$(t --steps 60 --seed 3 --threads 2)"
t --epochs 2 --steps 100 --save part.dls >/dev/null
same "train: resume from a checkpoint = uninterrupted" "$(t --epochs 2 --resume part.dls)" "$(t --epochs 2)"
other=$(t --steps 60 --seed 4 --threads 1)
if [ "$one" != "$other" ]; then ok "train: seeds differ"; else fail "train: --seed changes nothing"; fi
./train --data data/mnist-train --test data/mnist-test --epochs 1 --save digits.dls >train.txt 2>&1
accuracy=$(sed -n 's/^test accuracy \([0-9]*\).*/\1/p' train.txt)
check "train: one epoch of 10000 images gives over 94 %" test "${accuracy:-0}" -ge 94
check "classify" ./classify digits.dls data/mnist-test 200
check "collective refuses other machines" sh -c './collective 0 10.0.0.1:1,10.0.0.2:1,10.0.0.3:1 2>&1 | grep -q DLS_E_REFUSED'

# MPI as a link and as the collective: the state of one process, for any number of ranks.
if ! have mpicc; then
    skip "mpi" mpicc
elif OMPI_CC=$CC sh -c "$(line mpi.c)" >mpi.txt 2>&1; then
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo
    export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe \
        OMPI_MCA_mpi_yield_when_idle OMPI_MCA_pml OMPI_MCA_btl OMPI_MCA_btl_tcp_if_include
    one=$(t --steps 160 --seed 3 --shards 8) # more than an epoch
    for way in --link --collective; do
        for ranks in 1 2 4; do
            same "mpi $way: $ranks ranks = one process" "$one" \
                "$(mpirun -n $ranks ./mpi $way 3 160 2>&1 | sed 's/^state-hash //; /ranks$/d')"
        done
    done
    check "mpi: misuse" sh -c 'mpirun -n 2 ./mpi --links 2>&1 | grep -q "link or --collective failed"'
else
    fail "mpi.c: its first line builds it" mpi.txt
fi

# Interrupted, train leaves a checkpoint and says how to go on.
./train --data data/mnist-train --epochs 200 --save int.dls >int.txt 2>&1 &
pid=$!
sleep 1
kill -INT $pid
wait $pid
same "train: interrupted, status 3" "$?" 3
check "train: says how to resume" grep -q -e '--resume int.dls' int.txt
check "train: the checkpoint loads" ./classify int.dls data/mnist-test 10

# Misuse gets a clear error and a status, never a crash.
wrong() { # TEXT COMMAND...: status 1 or 2, and the message has TEXT
    text=$1
    shift
    "$@" >wrong.txt 2>&1
    s=$?
    if [ $s -ge 1 ] && [ $s -le 2 ] && grep -q -e "$text" wrong.txt; then ok "error: $*"
    else fail "error: $* (status $s)" wrong.txt; fi
}
head -c 5000 digits.dls >short.dls
wrong "data/nothing" ./train --data data/nothing
wrong "usage" ./classify
wrong "nothing.dls" ./classify nothing.dls data/mnist-test
wrong "short.dls" ./classify short.dls data/mnist-test
wrong "Options" ./train --epoch 3
wrong "Options" ./train --epochs

check "tools/dlshard builds" "$CC" -O1 ../tools/dlshard.c -o dlshard -lpthread
check "dlshard train" ./dlshard train --data data/mnist-train --test data/mnist-test --steps 40 --save m.dls --curve c.svg
check "dlshard: the curve is SVG with two lines" test "$(grep -c '<polyline' c.svg)" = 2
check "dlshard eval" ./dlshard eval m.dls data/mnist-test
check "dlshard info" sh -c './dlshard info m.dls | grep -q "conv2d .*28x28x16"'
check "dlshard bench" ./dlshard bench m.dls --seconds 0.2
check "dlshard bench --train" ./dlshard bench m.dls --seconds 0.2 --train --batch 16
check "dlshard train --net resnet8" ./dlshard train --data data/mnist-train --net resnet8 --steps 3
peers=127.0.0.1:$(((($$ * 7) % 20000) + 20000)),127.0.0.1:$(((($$ * 7) % 20000) + 20001))
./dlshard train --data data/mnist-train --steps 20 --peers "$peers" --rank 1 >p1.txt 2>&1 &
check "dlshard train --peers" ./dlshard train --data data/mnist-train --steps 20 --peers "$peers" --rank 0
wait $!
same "dlshard train --peers: rank 1 ends well" "$?" 0

# By key: three devices find each other on the loopback's LAN; the example's and the tool's results
# are those of one device.
for d in ada ben cleo; do ./dlshard enrol $d --role train,coord >/dev/null 2>&1 || { ./dlshard keygen >/dev/null && ./dlshard enrol $d --role train,coord >/dev/null; }; done
mkdir -p few # 640 images of each
for part in train test; do
    { printf '\000\000\010\003\000\000\002\200\000\000\000\034\000\000\000\034'
      gzip -dc data/mnist-$part-images-idx3-ubyte.gz | tail -c +17 | head -c $((640 * 784)); } >few/mnist-$part-images-idx3-ubyte
    { printf '\000\000\010\001\000\000\002\200'
      gzip -dc data/mnist-$part-labels-idx1-ubyte.gz | tail -c +9 | head -c 640; } >few/mnist-$part-labels-idx1-ubyte
done
for d in ben cleo; do DLSHARD_DATA=few ./collective $d.key >$d.txt 2>&1 & done
check "collective by key" sh -c 'DLSHARD_DATA=few ./collective ada.key >ada.txt 2>&1 || { cat ada.txt; exit 1; }'
wait
same "collective by key: the state of one device" "$(sed -n 's/.*every peer has state //p' ada.txt)" \
    "$(./train --data few/mnist-train --state-hash --epochs 3 --shards 8 | sed -n 's/^state-hash //p')"
check "collective by key: outputs equal those of one device" grep -q 'outputs equal, bit for bit' ada.txt
lan="--lan-port $(((($$ * 11) % 20000) + 20000))"
t3="train --data data/mnist-train --steps 20 --shards 8"
by_key="$lan --expect 3" # else who is first begins alone
for d in ben cleo; do ./dlshard $t3 --key $d.key $by_key >$d.txt 2>&1 & done
# shellcheck disable=SC2086
check "dlshard train --key" sh -c "./dlshard $t3 --key ada.key $by_key --save k.dls >ada.txt 2>&1 || { cat ada.txt; exit 1; }"
wait
check "dlshard train --key: who is there" grep -q '^together: ada ben cleo; this is place 0' ada.txt
state() { sed -n 's/^trained.*state //p' "$1"; }
./dlshard $t3 >one.txt 2>&1
for d in ada ben cleo; do same "dlshard train --key: $d has the state of one device" "$(state $d.txt)" "$(state one.txt)"; done
./dlshard eval k.dls data/mnist-test >one.txt 2>&1
for d in ben cleo; do ./dlshard infer k.dls data/mnist-test --key $d.key $lan >$d.txt 2>&1 & done
check "dlshard infer --key" sh -c "./dlshard infer k.dls data/mnist-test --key ada.key $lan >ada.txt 2>&1 || { cat ada.txt; exit 1; }"
wait
same "dlshard infer --key: the accuracy of one device" "$(sed -n 's/^accuracy \([0-9.]* % of [0-9]*\).*/\1/p' ada.txt)" "$(sed -n 's/^accuracy \([0-9.]* % of [0-9]*\).*/\1/p' one.txt)"
wrong "nobody else was found" ./dlshard train --data data/mnist-train --key ada.key $lan --join-ms 300
wrong "no/such.key" ./dlshard train --data data/mnist-train --key no/such.key
wrong "no option" ./dlshard train --what 3
wrong "no command" ./dlshard fly
wrong "wants a number" ./dlshard train --data data/mnist-train --epochs many
wrong "no network" ./dlshard train --data data/mnist-train --net vgg
wrong "no optimiser" ./dlshard train --optim sgdd
wrong "no/dir" ./dlshard train --data data/mnist-train --steps 2 --save no/dir/m.dls
wrong "short.dls" ./dlshard info short.dls
wrong "--data" ./dlshard train
wrong "MODEL" ./dlshard info

if echo '#include <stb/stb_image.h>' | "$CC" -E - >/dev/null 2>&1; then
    check "classify with stb_image builds" "$CC" -O1 -DWITH_STB classify.c -o classify_stb -lpthread -lm
    { printf 'P5 28 28 255\n'; head -c 784 /dev/zero; } >zero.pgm
    check "classify: an image file" ./classify_stb digits.dls zero.pgm
    wrong "no image" ./classify_stb digits.dls data/text.txt
else
    skip "classify with stb_image" "libstb-dev"
fi

# README: blocks marked ```c are whole programs, ```sh are run from a fresh copy of the repository.
cp "$root/README.md" . 2>/dev/null || { fail "README.md is missing"; exit 0; }
awk -v dir="$PWD" '/^```c$/{n++; f=dir "/readme" n ".c"; next} /^```/{f=""} f{print > f}' README.md
for f in readme*.c; do
    name=${f%.c}
    check "README: $f builds" "$CC" -O1 -I.. "$f" -o "$name" -lpthread
    check "README: $f runs" "./$name"
done
sed -n '/^```sh$/,/^```$/p' README.md | grep -v '^```' >readme.sh
for target in $(sed -n 's/^make -C \([a-z]*\).*/\1/p' readme.sh); do
    check "README: make -C $target exists" test -f "$root/$target/Makefile"
done
