package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"hsmsweep/internal/emulator/servicebus/store"
)

func put(table, key, value string) store.Change {
	return store.Change{Table: table, Key: []byte(key), Value: []byte(value)}
}

func remove(table, key string) store.Change { return store.Change{Table: table, Key: []byte(key)} }

func drop(table string) store.Change { return store.Change{Table: table} }

func TestCommittedIsThereAfterReopening(t *testing.T) {
	tests := []struct {
		name    string
		commits [][]store.Change
		want    string
	}{
		{"nothing", nil, ""},
		{"in order of table and key", [][]store.Change{{put("b", "2", "x"), put("b", "1", "y"), put("a", "3", "z")}}, "a/3=z b/1=y b/2=x"},
		{"an empty value", [][]store.Change{{put("t", "k", "")}}, "t/k="},
		{"the last of a key wins", [][]store.Change{{put("t", "k", "1"), put("t", "k", "2")}, {put("t", "l", "3")}, {put("t", "l", "4")}}, "t/k=2 t/l=4"},
		{"deleted", [][]store.Change{{put("t", "k", "1"), put("t", "l", "2")}, {remove("t", "k")}}, "t/l=2"},
		{"deleted where it never was", [][]store.Change{{remove("t", "k")}}, ""},
		{"dropped", [][]store.Change{{put("t", "k", "1"), put("u", "k", "2")}, {drop("t")}}, "u/k=2"},
		{"dropped where it never was", [][]store.Change{{drop("t")}}, ""},
		{"begun anew after a drop", [][]store.Change{{put("t", "k", "1")}, {drop("t"), put("t", "l", "2")}}, "t/l=2"},
		{"dropped after a put", [][]store.Change{{put("t", "k", "1"), drop("t")}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			s := open(t, path)
			for _, changes := range test.commits {
				if err := s.Commit(changes); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, contents(t, open(t, path))); diff != "" {
				t.Errorf("contents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnusableFiles(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"text", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte("not a database\n"), 10_000)) }, "invalid"},
		{"shorter than a page", func(t *testing.T, path string) { write(t, path, []byte("short")) }, "cannot be used"},
		{"another program's", foreign, "not a state file of this version"},
		{"cut off", func(t *testing.T, path string) { damage(t, path, func(b []byte) []byte { return b[:len(b)/4] }) }, "damaged"},
		{"zeros where pages were", func(t *testing.T, path string) {
			damage(t, path, func(b []byte) []byte { clear(b[8<<10:]); return b })
		}, "damaged"},
		{"noise where pages were", func(t *testing.T, path string) {
			damage(t, path, func(b []byte) []byte { copy(b[8<<10:], bytes.Repeat([]byte("noise"), len(b)/5)); return b })
		}, "damaged"},
		{"one bit of a value", func(t *testing.T, path string) {
			damage(t, path, func(b []byte) []byte { b[bytes.LastIndex(b, []byte("marked"))] ^= 1; return b })
		}, "damaged: the checksum"},
		{"in a folder that is missing", func(*testing.T, string) {}, "no such file or directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if strings.Contains(test.want, "no such file") {
				path = filepath.Join(path, "state")
			}
			test.make(t, path)
			err := load(path)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range []string{path, test.want, "remove the file"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error lacks %q: %v", part, err)
				}
			}
		})
	}
}

func TestOneProcessAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that the second need not really wait
		path := filepath.Join(t.TempDir(), "state")
		s := open(t, path)
		if _, err := store.Open(path); err == nil || !strings.Contains(err.Error(), path+" is in use by another process") {
			t.Errorf("opening a file in use: error %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, path)
	})
}

func TestCommitAfterCloseFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := open(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit([]store.Change{put("t", "k", "v")}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func contents(t *testing.T, s *store.Store) string {
	t.Helper()
	var all []string
	if err := s.Load(func(table string, key, value []byte) error {
		all = append(all, fmt.Sprintf("%s/%s=%s", table, key, value))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// load opens the file and reads all of it.
func load(path string) error {
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Load(func(string, []byte, []byte) error { return nil })
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage makes a good file and then has spoil change its bytes.
func damage(t *testing.T, path string, spoil func([]byte) []byte) {
	t.Helper()
	s := open(t, path)
	var changes []store.Change
	for i := range 1000 {
		changes = append(changes, put("t", fmt.Sprint(i), fmt.Sprintf("%0200d", i)))
	}
	if err := s.Commit(append(changes, put("t", "z", "marked"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := load(path); err != nil {
		t.Fatalf("before the damage: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, spoil(b))
}

func foreign(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
