static void node_tests(void) {}
