# Gradients of every op and loss: against differences in doubles, then the floats' against these.
. ./lib.sh
GRAD_FILE=$out/gradients
export GRAD_FILE
# the names of all rows, so that an op without a case is a failure
sed -n 's/^DLS_API const dls_op \*dls_op_\([a-z0-9_]*\)(void);$/"\1",/p' "$root/dlshard.h" >"$out/ops.h"
build "$out/grad64" grad/main.c -DDLS_REAL64=1 -I"$out" -Wl,--no-as-needed -lm && run_c "$out/grad64"
build "$out/grad32" grad/main.c -I"$out" -Wl,--no-as-needed -lm && run_c "$out/grad32"
