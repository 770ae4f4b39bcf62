package object

// LimitCopies makes a store copy in parts what has more than atOnce bytes, in parts of part bytes.
func LimitCopies(s *Store, atOnce, part int64) { s.limits = copyLimits{atOnce, part} }
