package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// childEnv makes the test binary a child that plays a role and prints class and code of the error it met.
const childEnv, childRootEnv = "COPYFLEET_TEST_CHILD", "COPYFLEET_TEST_CHILD_ROOT"

// inChild plays a role on the store at root in a process of its own and returns what it printed.
func inChild(t *testing.T, role, root string) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+role, childRootEnv+"="+root)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// runChild is the child. It returns the exit code.
func runChild(ctx context.Context, role string) int {
	store, err := sandbox.Open(os.Getenv(childRootEnv), sandbox.Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer store.Close()
	var said string
	switch role {
	case "limited":
		said, err = limited(ctx, store)
	case "unprivileged":
		said, err = unprivileged(ctx, store)
	case "replacing":
		said, err = replacing(ctx, store)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(said)
	return 0
}

func limited(ctx context.Context, store *sandbox.Store) (string, error) {
	const limit = 512 << 10
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return "", err
	}
	return putTooMuch(ctx, store), nil
}

// putTooMuch puts 1 MiB at /f and returns class and code of the error.
func putTooMuch(ctx context.Context, store *sandbox.Store) string {
	content := storage.Content{Body: strings.NewReader(strings.Repeat("n", 1<<20)), Size: storage.UnknownSize}
	_, err := store.Destination(org, box, "/f", "t", nil).Put(ctx, content)
	return describe(err)
}

func unprivileged(ctx context.Context, store *sandbox.Store) (string, error) {
	if err := becomeNobody(); err != nil {
		return "", err
	}
	_, err := store.Destination(org, box, "/d/f", "t", nil).Put(ctx, storage.Content{Body: strings.NewReader("n"), Size: 1})
	return describe(err), nil
}

func becomeNobody() error {
	const nobody = 65534
	if os.Getuid() != 0 {
		return nil
	}
	return syscall.Setuid(nobody) // of all threads, which unix.Setuid is not
}

// replacing puts a tree in the place of another one of its own, in which directories are that it may not write or read.
func replacing(ctx context.Context, store *sandbox.Store) (string, error) {
	if err := becomeNobody(); err != nil {
		return "", err
	}
	for i, entries := range [][]string{{"d/e/f:old", "n/f:old"}, {"f:new"}} {
		body, err := packedOf(entries...)
		if err != nil {
			return "", err
		}
		content := storage.Content{Body: bytes.NewReader(body), Size: int64(len(body))}
		if _, err := store.Tree(org, box, "/d/x", storage.ReplaceTree, treeLimits, "t"+strconv.Itoa(i), nil).Put(ctx, content); err != nil {
			return "", err
		}
		if i > 0 {
			break
		}
		at := os.Getenv(childRootEnv) + "/" + org + "/" + box + "/d/x/"
		err = errors.Join(os.Chmod(at+"d/e", 0o500), os.Chmod(at+"d", 0o500), os.Chmod(at+"n", 0))
		if err != nil {
			return "", err
		}
	}
	return "replaced", nil
}
