package routing

// childEnv makes the test binary a node process.
const childEnv = "ROUTING_TEST_NODE"

func childMain() {}
