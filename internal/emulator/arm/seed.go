package arm

import (
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
)

// Seed adds the pools of a JSON document {"pools":[Pool, ...]}. It is strict: unknown and repeated members and
// anything after the document are errors, and after an error nothing was added.
func (s *Simulator) Seed(r io.Reader) error {
	var document struct {
		Pools []Pool `json:"pools"`
	}
	if err := json.UnmarshalRead(r, &document, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("arm: seed: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	added := map[string]bool{}
	for _, p := range document.Pools {
		if err := p.validate(); err != nil {
			return fmt.Errorf("arm: seed: %w", err)
		}
		key := strings.ToLower(p.ID)
		if added[key] || s.pools[key] != nil {
			return fmt.Errorf("arm: seed: pool %s: exists already", p.ID)
		}
		added[key] = true
	}
	for _, p := range document.Pools {
		s.addPool(p)
	}
	return nil
}
