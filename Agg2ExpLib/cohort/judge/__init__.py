"""Is a case unusual? Profiles, detectors, scores, and the statistics that say what they are worth."""
