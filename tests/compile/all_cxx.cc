// all_cxx.cc - the implementation inside a C++11 file, training and all.
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <cstdio>
#include <vector>

static bool learns_xor() {
    const std::vector<float> x = {0, 0, 0, 1, 1, 0, 1, 1};
    const std::vector<int32_t> label = {0, 1, 1, 0};
    dls_net *net = dls_net_create(nullptr);
    dls_val v = dls_net_input(net, 1, 1, 2);
    v = dls_net_dense(net, v, 16, DLS_ACT_TANH);
    dls_net_dense(net, v, 2, DLS_ACT_NONE);
    dls_train_desc desc = dls_train_desc();
    desc.batch = 4;
    desc.optim.kind = DLS_OPTIM_ADAM;
    desc.optim.lr = 0.05f;
    dls_train *train = dls_train_create(net, &desc);
    dls_target target = dls_target();
    target.label = label.data();
    dls_step_stats stats = dls_step_stats();
    for (int i = 0; i < 200 && train != nullptr; i++)
        if (dls_train_step(train, x.data(), &target, 4, &stats) != DLS_OK) return false;
    dls_train_destroy(train);
    dls_net_destroy(net);
    return stats.accuracy == 1.0 && stats.loss < 0.1;
}

int main() {
    const bool good = learns_xor();
    std::printf("%s\n", good ? "learned" : "not learned");
    return good ? 0 : 1;
}
