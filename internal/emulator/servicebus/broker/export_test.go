package broker

// Kill ends the broker as a crash of its process does: what is not on disk by now never will be.
func (b *Broker) Kill() error {
	err := b.journal.store.Close()
	b.Close()
	return err
}
