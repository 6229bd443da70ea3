// user_cxx.cc - a C++11 file that uses the C implementation of another.
#include "dlshard.h"
#include <cstring>
using std::memcpy;
#define COPY copy_cxx
extern "C" uint64_t copy_cxx(void);
#include "copy.h"
