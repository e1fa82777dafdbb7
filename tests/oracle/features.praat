# Features of recordings by Praat's own commands, for tests/oracle/features.py:
#   praat --run features.praat LIST OUT
# LIST holds a line "formant-ceiling<tab>path" for each recording. OUT gets for each a line "name<tab>value" for every
# feature, "f0" and "intensity" with their frames, then an empty line.

form Features
    sentence list
    sentence out
endform

deleteFile: out$
lines = Read Strings from raw text file: list$
count = Get number of strings
for line to count
    selectObject: lines
    line$ = Get string: line
    tab = index (line$, tab$)
    ceiling = number (left$ (line$, tab - 1))
    sound = Read from file: mid$ (line$, tab + 1, length (line$))
    duration = Get total duration
    @put: "duration_s", duration
    @pitch
    @intensity
    @nuclei
    @quality
    appendFileLine: out$, ""
    select all
    minusObject: lines
    Remove
endfor

procedure put: .name$, .value
    appendFileLine: out$, .name$, tab$, .value
endproc

procedure pitch
    selectObject: sound
    pitch = To Pitch (ac): 0.01, 75, 15, "no", 0.03, 0.45, 0.01, 0.35, 0.14, 600
    frames = Get number of frames
    voiced = Count voiced frames
    @put: "voiced_share", voiced / frames
    value = Get mean: 0, 0, "Hertz"
    @put: "f0_mean_hz", value
    value = Get quantile: 0, 0, 0.5, "Hertz"
    @put: "f0_median_hz", value
    value = Get standard deviation: 0, 0, "semitones"
    @put: "f0_sd_st", value
    low = Get quantile: 0, 0, 0.05, "Hertz"
    high = Get quantile: 0, 0, 0.95, "Hertz"
    @put: "f0_range_st", 12 * log2 (high / low)
    n = 0
    time# = zero# (voiced)
    st# = zero# (voiced)
    appendFile: out$, "f0"
    for frame to frames
        selectObject: pitch
        f0 = Get value in frame: frame, "Hertz"
        if f0 <> undefined
            n += 1
            time# [n] = Get time from frame number: frame
            st# [n] = 12 * log2 (f0 / 100)
            appendFile: out$, tab$, f0
        else
            appendFile: out$, tab$, 0
        endif
    endfor
    appendFileLine: out$, ""
    slope = undefined
    if n > 1
        time# = time# - mean (time#)
        slope = inner (time#, st# - mean (st#)) / inner (time#, time#)
    endif
    @put: "f0_slope_st_s", slope
endproc

procedure intensity
    selectObject: sound
    intensity = To Intensity: 75, 0, "yes"
    value = Get mean: 0, 0, "energy"
    @put: "intensity_mean_db", value
    frames = Get number of frames
    appendFile: out$, "intensity"
    for frame to frames
        value = Get value in frame: frame
        appendFile: out$, tab$, value
    endfor
    appendFileLine: out$, ""
endproc

# Call for call the script of de Jong & Wempe (2009).
procedure nuclei
    selectObject: sound
    curve50 = To Intensity: 50, 0, "yes"
    least = Get minimum: 0, 0, "Parabolic"
    most = Get maximum: 0, 0, "Parabolic"
    high = Get quantile: 0, 0, 0.99
    threshold = max (high - 25, least)
    grid = To TextGrid (silences): -25 - (most - high), 0.3, 0.1, "silent", "sounding"
    tier = Extract tier: 1
    table = Down to TableOfReal: "sounding"
    rows = Get number of rows
    speech = 0
    for row to rows
        end = Get value: row, 2
        start = Get value: row, 1
        speech += end - start
    endfor
    selectObject: curve50
    matrix = Down to Matrix
    curve = To Sound (slice): 1
    points = To PointProcess (extrema): "Left", "yes", "no", "Sinc70"
    extrema = Get number of points
    selectObject: sound
    pitch30 = To Pitch (ac): 0.02, 30, 4, "no", 0.03, 0.25, 0.01, 0.35, 0.25, 450
    peaks = 0
    peak# = zero# (extrema)
    height# = zero# (extrema)
    for i to extrema
        selectObject: points
        t = Get time from index: i
        selectObject: curve
        value = Get value at time: 0, t, "Cubic"
        if value > threshold
            peaks += 1
            peak# [peaks] = t
            height# [peaks] = value
        endif
    endfor
    syllables = 0
    for i to peaks - 1
        selectObject: curve50
        dip = Get minimum: peak# [i], peak# [i + 1], "None"
        if abs (height# [i] - dip) > 2
            selectObject: pitch30
            f0 = Get value at time: peak# [i], "Hertz", "Linear"
            selectObject: grid
            interval = Get interval at time: 1, peak# [i]
            label$ = Get label of interval: 1, interval
            if f0 <> undefined and label$ = "sounding"
                syllables += 1
            endif
        endif
    endfor
    @put: "speech_s", speech
    @put: "speech_rate_syll_s", syllables / duration
    @put: "articulation_rate_syll_s", if speech > 0 then syllables / speech else undefined fi
    @put: "pause_count", max (rows - 1, 0)
    @put: "pause_share", 1 - speech / duration
endproc

procedure quality
    selectObject: sound, pitch
    pulses = To PointProcess (cc)
    value = Get jitter (local): 0, 0, 0.0001, 0.02, 1.3
    @put: "jitter_local", value
    number = Get number of points
    value = undefined
    if number > 2
        selectObject: sound, pulses
        value = Get shimmer (local): 0, 0, 0.0001, 0.02, 1.3, 1.6
    endif
    @put: "shimmer_local", value
    selectObject: sound
    harmonicity = To Harmonicity (cc): 0.01, 75, 0.1, 1
    value = Get mean: 0, 0
    @put: "hnr_db", value
    selectObject: sound
    formant = To Formant (burg): 0, 5, ceiling, 0.025, 50
    selectObject: pitch
    frames = Get number of frames
    below = 0
    above = 0
    for k to 3
        selectObject: pitch
        voiced = Count voiced frames
        track# = zero# (voiced)
        n = 0
        for frame to frames
            selectObject: pitch
            f0 = Get value in frame: frame, "Hertz"
            if f0 <> undefined
                t = Get time from frame number: frame
                selectObject: formant
                value = Get value at time: k, t, "Hertz", "Linear"
                if value <> undefined
                    n += 1
                    track# [n] = value
                endif
                if k = 1
                    @bands: t
                endif
            endif
        endfor
        @median
        @put: "f'k'_hz", median
    endfor
    @put: "alpha_ratio_db", if below > 0 and above > 0 then 10 * log10 (below / above) else undefined fi
endproc

procedure bands: .t
    selectObject: sound
    .part = Extract part: .t - 0.02, .t + 0.02, "Hanning", 1, "no"
    .spectrum = To Spectrum: "no"
    .energy = Get band energy: 50, 1000
    below += .energy
    .energy = Get band energy: 1000, 5000
    above += .energy
    removeObject: .part, .spectrum
endproc

procedure median
    median = undefined
    if n > 0
        values# = zero# (n)
        for i to n
            values# [i] = track# [i]
        endfor
        values# = sort# (values#)
        middle = n div 2
        median = if n mod 2 = 1 then values# [middle + 1] else (values# [middle] + values# [middle + 1]) / 2 fi
    endif
endproc
