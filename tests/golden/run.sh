# Against PyTorch's numbers, committed: exactly in double, closely in float on every kernel set.
# make_golden.py makes the numbers; nothing here needs it.
. ./lib.sh
build "$out/golden64" golden/golden.c -DDLS_REAL64=1 && run_c "$out/golden64"
build "$out/golden" golden/golden.c && run_c "$out/golden"
if [ -f /usr/include/stb/stb_image.h ]; then
    build "$out/image" golden/image.c -I/usr/include/stb && run_c "$out/image" "$out"
else
    skip "images from files" "stb_image.h"
fi
