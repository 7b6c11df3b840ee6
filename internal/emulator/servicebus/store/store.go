// Package store keeps small values in tables in one file. A commit makes many changes durable together, all or
// none, whatever kills the process meanwhile; values carry a checksum, so that a damaged file is noticed when it is
// opened and not taken for what was stored.
package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// format is the bucket that holds all tables. Another format has another name.
var format = []byte("hsmsweep service bus state 1")

// otherProcessTimeout is how long Open waits for a process that is just ending to let go of the file.
const otherProcessTimeout = 2 * time.Second

// A Store is an open file. Load and Commit are safe for concurrent use.
type Store struct {
	path string
	db   *bbolt.DB
}

// A Change puts a value, deletes it if Value is nil, or drops the whole table if Key is nil, too.
type Change struct {
	Table      string
	Key, Value []byte
}

// Open opens the file or creates it. The error names the file and says whether it is in use by another process, is
// not a file of this package, or is damaged as far as that shows before Load.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	err := s.guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: otherProcessTimeout, FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		return s.db.Update(claim)
	})
	if err == nil {
		return s, nil
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return nil, err
}

// Load passes every value to f, in order of table and key. The slices are f's to keep. Errors are f's own, or tell that the
// file is damaged.
func (s *Store) Load(f func(table string, key, value []byte) error) error {
	return s.guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			tables := tx.Bucket(format)
			return tables.ForEachBucket(func(table []byte) error {
				return tables.Bucket(table).ForEach(func(key, sealed []byte) error {
					value, err := unseal(key, sealed)
					if err != nil {
						return err
					}
					return f(string(table), bytes.Clone(key), value)
				})
			})
		})
	})
}

// Commit makes the changes in their order. When it returns nil they are on disk, else none is.
func (s *Store) Commit(changes []Change) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		tables := tx.Bucket(format)
		for _, c := range changes {
			if err := c.apply(tables); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state file %s cannot be written: %w", s.path, err)
	}
	return nil
}

// Close closes the file after the commit under way, if there is one; later ones fail.
func (s *Store) Close() error { return s.db.Close() }

func (c Change) apply(tables *bbolt.Bucket) error {
	table := []byte(c.Table)
	if c.Key == nil {
		if err := tables.DeleteBucket(table); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
		return nil
	}
	b, err := tables.CreateBucketIfNotExists(table)
	switch {
	case err != nil:
		return err
	case c.Value == nil:
		return b.Delete(c.Key)
	default:
		return b.Put(c.Key, seal(c.Key, c.Value))
	}
}

var errForeign = errors.New("it is not a state file of this version of the emulator")

// claim makes an empty file one of this package.
func claim(tx *bbolt.Tx) error {
	if tx.Bucket(format) != nil {
		return nil
	}
	if first, _ := tx.Cursor().First(); first != nil {
		return errForeign
	}
	_, err := tx.CreateBucket(format)
	return err
}

var errDamaged = errors.New("it is damaged")

// guard names the file in errors. Where pages of the file are damaged or missing, bbolt panics or faults on its memory map.
func (s *Store) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", errDamaged, cause)
		}
		switch {
		case err == nil:
		case errors.Is(err, bolterrors.ErrTimeout):
			err = fmt.Errorf("state file %s is in use by another process; stop it or keep the state elsewhere", s.path)
		default:
			err = fmt.Errorf("state file %s cannot be used: %w; keep the state elsewhere, or remove the file to begin anew", s.path, err)
		}
	}()
	return f()
}

const sumSize = crc32.Size

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum of key and value before the value.
func seal(key, value []byte) []byte {
	return append(checksum(key, value), value...)
}

func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < sumSize || string(sealed[:sumSize]) != string(checksum(key, sealed[sumSize:])) {
		return nil, fmt.Errorf("%w: the checksum of value %x is wrong", errDamaged, key)
	}
	return bytes.Clone(sealed[sumSize:]), nil
}

func checksum(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(nil, sum)
}
