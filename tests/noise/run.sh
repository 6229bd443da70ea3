# Handshakes, records, cookies and identities. Twice: as on hosts, and as on small devices with
# rekeying every 64 records.
. ./lib.sh
build "$out/noise" noise/noise.c && run_c "$out/noise"
build "$out/noise_small" noise/noise.c -DDLSI_REKEY_BITS=8 -DDLS_REPLAY_BITS=64 &&
    run_c "$out/noise_small" record | sed 's/$/, small/'
