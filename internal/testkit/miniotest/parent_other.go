//go:build !linux

package miniotest

import "syscall"

// dieWithParent has no equivalent here: a MinIO whose test binary is killed goes on.
func dieWithParent() *syscall.SysProcAttr { return nil }
