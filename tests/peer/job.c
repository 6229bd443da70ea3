static void job_tests(void) {}
