package bench

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the child with this process.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
