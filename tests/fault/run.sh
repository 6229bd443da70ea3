# Every allocation and every file call of the usual scenarios fails in turn, once and for good.
. ./lib.sh
OUT=$out
export OUT
build "$out/fault" fault/fault.c && run_c "$out/fault"
