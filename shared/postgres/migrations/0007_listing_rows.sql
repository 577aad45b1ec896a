-- What 0004 made room for, of the rows that were there already, from what they show: their words and their terms. Rows
-- are locked one by one, and only against being changed.

UPDATE orchestrations AS o SET words = said.words
FROM (
    SELECT line.team_id, line.id, string_agg(line.words, E'\n' ORDER BY line.place) AS words
    FROM (
        SELECT team_id, id, place, regexp_replace(lower(' ' || said || ' '), '([^[:alnum:]]|_)+', ' ', 'g') AS words
        FROM (
            SELECT team_id, id, -2 AS place, view->>'name' AS said FROM orchestrations
            UNION ALL SELECT team_id, id, -1, view->>'description' FROM orchestrations
            UNION ALL SELECT team_id, orchestration_id, position, view->>'title' FROM tasks
        ) AS texts
        WHERE said IS NOT NULL
    ) AS line
    WHERE line.words <> ' '
    GROUP BY line.team_id, line.id
) AS said
WHERE o.team_id = said.team_id AND o.id = said.id AND o.words = '';

INSERT INTO orchestration_terms (team_id, term, created_at, id)
SELECT team_id, 's:' || status, created_at, id FROM orchestrations
UNION SELECT team_id, 'r:' || repository, created_at, id FROM orchestrations
UNION SELECT team_id, 'c:' || created_by, created_at, id FROM orchestrations
UNION SELECT team_id, 't:' || tag, created_at, id FROM orchestrations CROSS JOIN unnest(tags) AS tag
UNION SELECT team_id, 'w:' || left(word, 64), created_at, id
      FROM orchestrations CROSS JOIN regexp_split_to_table(words, '\s+') AS word WHERE word <> ''
ON CONFLICT DO NOTHING;
