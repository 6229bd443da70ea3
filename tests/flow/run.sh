# Serial framing, loss recovery and congestion control, in virtual time. FLOW_FULL=1: more inputs.
. ./lib.sh
build "$out/flow" flow/flow.c -DDLS_ENABLE_SIMD=0 -lm && run_c "$out/flow"
