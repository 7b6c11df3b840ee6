package dashboard

import (
	"cmp"
	"slices"
	"time"

	"hsmsweep/worker"
)

// mostShown is how many requests, and how many dead letters, are shown. All are counted.
const mostShown = 300

// A snapshot is the queue as it was gone through once. It takes requests one by one, and keeps no more than are shown.
type snapshot struct {
	at       time.Time
	active   int
	parked   int
	oldest   time.Time // since when the active request that has been longest is active
	whys     map[worker.Reason]int
	ages     histogram // of all
	dues     histogram // of the parked
	urgent   []worker.Waiting
	timeline *timelines
}

func newSnapshot(now time.Time, t *timelines) *snapshot {
	return &snapshot{at: now, whys: map[worker.Reason]int{}, timeline: t}
}

func (s *snapshot) add(w worker.Waiting) {
	s.ages.add(s.at.Sub(w.RequestedAt))
	if w.Parked {
		s.parked++
		s.dues.add(w.DueAt.Sub(s.at))
		why := w.Why
		if words[why] == "" {
			why = "" // a forger must not have a counter made for each word of theirs
		}
		s.whys[why]++
	} else {
		s.active++
		if !w.Since.IsZero() && (s.oldest.IsZero() || w.Since.Before(s.oldest)) {
			s.oldest = w.Since
		}
	}
	s.timeline.follow(w, s.at)
	if s.urgent = append(s.urgent, w); len(s.urgent) == 2*mostShown {
		s.cut()
	}
}

// cut keeps the most urgent.
func (s *snapshot) cut() {
	slices.SortStableFunc(s.urgent, moreUrgent)
	for i := mostShown; i < len(s.urgent); i++ {
		s.urgent[i] = worker.Waiting{} // its message is not to be held
	}
	s.urgent = s.urgent[:min(mostShown, len(s.urgent))]
}

// moreUrgent puts what is active before what is parked, each by its time.
func moreUrgent(a, b worker.Waiting) int {
	switch {
	case a.Parked != b.Parked && b.Parked:
		return -1
	case a.Parked != b.Parked:
		return 1
	case a.Parked:
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.SequenceNumber, b.SequenceNumber))
	}
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.SequenceNumber, b.SequenceNumber))
}

// rows are those that are shown, and are followed from now on.
func (s *snapshot) rows() []waitRow {
	s.cut()
	rows := make([]waitRow, len(s.urgent))
	for i, w := range s.urgent {
		s.timeline.note(w, s.at)
		rows[i] = newWaitRow(w)
	}
	return rows
}

// deadLetters are the dead letters as they are gone through; all are counted, and the newest kept.
type deadLetters struct {
	count  int
	newest []deadRow
}

func (l *deadLetters) add(d deadRow) {
	l.count++
	if l.newest = append(l.newest, d); len(l.newest) == 2*mostShown {
		l.newest = slices.Clone(l.rows())
	}
}

// rows are those that are shown, the newest first.
func (l *deadLetters) rows() []deadRow {
	slices.SortStableFunc(l.newest, func(a, b deadRow) int {
		return cmp.Or(b.DeadLetteredAt.Compare(a.DeadLetteredAt), cmp.Compare(b.SequenceNumber, a.SequenceNumber))
	})
	return l.newest[:min(mostShown, len(l.newest))]
}
