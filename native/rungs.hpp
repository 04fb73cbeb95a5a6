// How the rungs of a ladder table are predicted and in which order they stand, for its reader and its writer.
#pragma once

namespace attar {

// A table half known: level[alphabet] are its rungs as far as they are, before[alphabet] those of the table before it, or
// null; `rungs` is the length of the ladder.
struct RungGuess {
    int mode;
    int rungs;
    const int* level;
    const int* before;

    // For a symbol, its neighbour towards the mode, and its mirror image about the mode (-1 where that is not known).
    int operator()(int place, int neighbour, int mirror) const {
        const int near = neighbour == mode ? 0 : level[neighbour];
        int guess = near - rungs / 8;
        if (mirror >= 0 && level[mirror] != 0) {
            guess = level[mirror] + moved(near, neighbour == mode ? 0 : level[2 * mode - neighbour]);
        } else if (before != nullptr && before[place] != 0) {
            guess = before[place] + moved(near, neighbour == mode ? 0 : before[neighbour]);
        } else if (neighbour == mode) {
            guess = rungs * 3 / 4;
        }
        return guess < 1 ? 1 : guess > rungs - 1 ? rungs - 1 : guess;
    }

  private:
    static int moved(int near, int other) { return near != 0 && other != 0 ? near - other : 0; }
};

// act(place, neighbour, mirror) for the symbols low .. high of 0 .. inner - 1, from the mode outwards, the lower one first.
template <class Act>
void outwards(int mode, int inner, int low, int high, Act act) {
    for (int d = 1; d < inner; ++d) {
        if (mode - d >= low) act(mode - d, mode - d + 1, -1);
        if (mode + d <= high) act(mode + d, mode + d - 1, mode - d >= 0 ? mode - d : -1);
    }
}

}  // namespace attar
