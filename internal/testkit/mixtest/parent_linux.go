package mixtest

import "syscall"

// dieWithParent makes a process end with a test binary that is killed before it can clean up.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
