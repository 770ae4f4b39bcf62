package broker

// StopLooking leaves an intake with nothing but wakes.
func (in *Intake) StopLooking() { in.look.Stop() }
