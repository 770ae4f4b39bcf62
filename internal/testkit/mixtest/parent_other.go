//go:build !linux

package mixtest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
