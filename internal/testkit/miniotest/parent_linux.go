package miniotest

import "syscall"

// dieWithParent makes MinIO end with a test binary that is killed before it can clean up.
//
// The signal is sent when the thread that started the process ends, which for a goroutine without a thread of its
// own is the end of the test binary: the runtime keeps its threads.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
