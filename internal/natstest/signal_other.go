//go:build !linux

package natstest

import "os/exec"

// dieWithParent has no means here: a killed test leaves its servers.
func dieWithParent(*exec.Cmd) {}
