package natstest

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the process if the test process is killed. The signal
// follows the thread that started the process, so a test that locks and ends
// its thread would end it too; no test here does.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
