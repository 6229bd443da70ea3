# Model files: round trips, damage, hostile contents.
. ./lib.sh
build "$out/model" model/model.c && run_c "$out/model"
