/* copies.c - calls every copy in the program; all compute the same, none knows of the others. */
#include <stdint.h>
#include <stdio.h>
uint64_t copy_a(void);
uint64_t copy_b(void);
uint64_t copy_shared(void);
uint64_t copy_user(void);
#ifdef WITH_CXX
uint64_t copy_cxx(void);
#else
#define copy_cxx copy_user
#endif

int main(void) {
    const uint64_t shared = copy_shared(), a = copy_a(), b = copy_b(), user = copy_user();
    const uint64_t cxx = copy_cxx();
    printf("%llx %llx %llx %llx %llx\n", (unsigned long long)shared, (unsigned long long)a,
           (unsigned long long)b, (unsigned long long)user, (unsigned long long)cxx);
    return shared == 0 || a != shared || b != shared || user != shared || cxx != shared;
}
