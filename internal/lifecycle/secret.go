package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Secret returns the content of a file in the data directory, mode 0600, which is made by create the first time.
// made says whether this call made it.
func (d *DataDir) Secret(name string, create func() string) (value string, made bool, err error) {
	path := d.Path(name)
	content, err := os.ReadFile(path)
	switch {
	case err == nil && strings.TrimSpace(string(content)) != "":
		return strings.TrimSpace(string(content)), false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", false, fmt.Errorf("read secret: %w", err)
	}
	value = create()
	if err := writeDurably(path, []byte(value+"\n")); err != nil {
		return "", false, fmt.Errorf("keep secret %s: %w", name, err)
	}
	return value, true, nil
}

// writeDurably writes a file whole or not at all.
func writeDurably(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already after the rename
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("put in place: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
