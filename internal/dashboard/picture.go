package dashboard

import (
	"bytes"
	"encoding/json"
	"time"
)

// A picture is what a page shows. A page that has a part of it in the same version already is not sent it again.
type picture struct {
	Number               int64
	Head                 head
	waiting, ended, dead section
}

// A head is everything but the lists.
type head struct {
	ReadAt time.Time `json:"readAt,omitzero"`  // when all of it was last read
	Took   int64     `json:"took"`             // ms that took
	Pause  int64     `json:"pause"`            // ms until it is read again
	Faults []string  `json:"faults,omitempty"` // why the last round was not whole

	Active int        `json:"active"`
	Oldest time.Time  `json:"oldest,omitzero"` // since when the first of these is active
	Parked int        `json:"parked"`
	Whys   []whyCount `json:"whys"`
	Ages   []bar      `json:"ages"`
	Dues   []bar      `json:"dues"`

	Ends    minute    `json:"ends"`
	Since   time.Time `json:"since,omitzero"` // of the oldest event that was there
	Minutes []minute  `json:"minutes"`
	Strange int       `json:"strange"`        // messages that are no events
	More    bool      `json:"more,omitempty"` // events are still being read

	Dead int `json:"dead"`
}

// A section is a list as JSON.
type section struct {
	version int64
	rows    json.RawMessage
}

// set makes a new version, unless it says the same.
func (s *section) set(rows any, version int64) error {
	text, err := json.Marshal(rows)
	if string(text) == "null" {
		text = []byte("[]")
	}
	if err == nil && !bytes.Equal(text, s.rows) {
		s.version, s.rows = version, text
	}
	return err
}

// A part of an answer is a section that the page does not have yet.
type part struct {
	Version int64           `json:"version"`
	Rows    json.RawMessage `json:"rows"`
}

func (s section) unless(version int64) *part {
	if s.version == version || s.rows == nil {
		return nil
	}
	return &part{s.version, s.rows}
}
